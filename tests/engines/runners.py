"""What makes an engine's processes run vLLM's model runner V2 on a processor."""

import os
from pathlib import Path

INTERPRETED = Path(__file__).parent / "interpreted"
SECOND = {  # see interpreted/sitecustomize.py
    "PYTHONPATH": os.pathsep.join(filter(None, [str(INTERPRETED), os.environ.get("PYTHONPATH")])),
    "TRITON_INTERPRET": "1",
    "TORCH_COMPILE_DISABLE": "1",  # the compiler would look for a real Triton
    "VLLM_USE_V2_MODEL_RUNNER": "1",
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",
}
