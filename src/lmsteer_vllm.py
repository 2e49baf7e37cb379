"""All that vLLM loads of lmsteer by itself, in each of its processes.

It stands outside the package so that loading it imports nothing else: an installed lmsteer leaves
a vLLM that nobody asks to steer exactly as it is. Steers are asked for by the environment variable
``LMSTEER_STEERS``, or by ``--additional-config '{"lmsteer": "NAME=FOLDER"}'``. vLLM knows the
second only after its plugins are loaded, so `register` waits at the one place where vLLM turns its
arguments into a configuration, and looks whether that names steers. See docs/engines.md.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any


def register() -> None:
    """Wait for a configuration that names steers; vLLM calls this in each of its processes."""
    if "vllm.engine.arg_utils" not in sys.modules and not _by_environment():
        return  # a process of an engine's own, which gets its configuration ready-made
    from vllm.engine.arg_utils import EngineArgs

    plain = EngineArgs.create_engine_config
    if hasattr(plain, "lmsteer"):
        return

    @functools.wraps(plain)
    def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = plain(self, *args, **kwargs)
        if _by_environment() or _by_config(config):
            from lmsteer.engines.vllm import configure

            configure(config)
        return config

    create_engine_config.lmsteer = True  # type: ignore[attr-defined]
    EngineArgs.create_engine_config = create_engine_config


def _by_environment() -> bool:
    return bool(os.environ.get("LMSTEER_STEERS", "").strip())


def _by_config(config: Any) -> bool:
    extra = getattr(config, "additional_config", None)
    return isinstance(extra, dict) and extra.get("lmsteer") not in (None, "")
