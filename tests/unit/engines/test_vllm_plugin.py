"""What vLLM loads of lmsteer by itself does nothing until steers are named; no vLLM is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# A vLLM in three lines: what the plugin touches of it.
FAKE = """
import os, sys, types
from types import SimpleNamespace
os.environ.pop("LMSTEER_STEERS", None)

class EngineArgs:
    additional_config = {}
    def create_engine_config(self, usage=None, *, headless=False):
        model = SimpleNamespace(logits_processors=["theirs:Own"])
        return SimpleNamespace(additional_config=self.additional_config, model_config=model)

def loaded():
    return sorted(m for m in sys.modules if m.startswith("lmsteer"))

for name in ("vllm", "vllm.engine", "vllm.engine.arg_utils"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["vllm.engine.arg_utils"].EngineArgs = EngineArgs
plain = EngineArgs.create_engine_config
before = set(sys.modules)
import lmsteer_vllm
"""


def run(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FAKE + code],
        capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_loading_it_imports_nothing_else():
    names = "{m.split('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names"
    assert run(f"print({names})") == "{'lmsteer_vllm'}\n"


@pytest.mark.parametrize(
    "extra", ["{}", "None", "{'lmsteer': None}", "{'lmsteer': ''}", "{'other': 1}", "object()"]
)
def test_nothing_happens_unless_steers_are_named(extra):
    assert not run(
        f"""
lmsteer_vllm.register()
lmsteer_vllm.register()
EngineArgs.additional_config = {extra}
for blank in (None, "", "  "):
    if blank is not None:
        os.environ["LMSTEER_STEERS"] = blank
    config = EngineArgs().create_engine_config(1, headless=True)
    assert config.model_config.logits_processors == ["theirs:Own"]
    assert EngineArgs.create_engine_config.__wrapped__ is plain
    assert loaded() == ["lmsteer_vllm"], loaded()
"""
    )


def test_a_process_that_makes_no_configuration_is_not_touched():
    assert not run(
        """
del sys.modules["vllm.engine.arg_utils"]
lmsteer_vllm.register()
assert EngineArgs.create_engine_config is plain
assert "vllm.engine.arg_utils" not in sys.modules
"""
    )


@pytest.mark.parametrize("how", ["environment", "configuration"])
def test_named_steers_are_configured_once(how):
    assert not run(
        f"""
seen = []
module = types.ModuleType("lmsteer.engines.vllm")
module.configure = seen.append
sys.modules |= {{n: types.ModuleType(n) for n in ("lmsteer", "lmsteer.engines")}}
sys.modules["lmsteer.engines.vllm"] = module
if {how!r} == "environment":
    os.environ["LMSTEER_STEERS"] = "a=b"
else:
    EngineArgs.additional_config = {{"lmsteer": "a=b"}}
lmsteer_vllm.register()
lmsteer_vllm.register()
config = EngineArgs().create_engine_config()
assert seen == [config]
"""
    )


def test_the_distribution_gives_vllm_one_plugin_and_no_logits_processor():
    tomllib = pytest.importorskip("tomllib")
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points == {"vllm.general_plugins": {"lmsteer": "lmsteer_vllm:register"}}
