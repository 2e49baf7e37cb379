"""The formula of docs/training.md for the memory that training needs beyond the loaded model."""

from __future__ import annotations

from typing import Any

from lmsteer.model.head import Head
from lmsteer.model.modes import fast_dtype
from lmsteer.model.tables import head_of, text_config
from lmsteer.states.cache import Keep
from lmsteer.states.hidden import _TOKENS_AT_ONCE

LIBRARIES = 300 << 20  # on a CPU: code of the libraries as it is paged in, and the heap's slack


def expected_peak(model: Any, tokens: int, *, parts: int, fast: bool) -> int:
    """Bytes beyond the model; see docs/training.md for what each line is."""
    table = head_of(model).weight
    vocab, dim = table.shape
    config = text_config(model)
    width = getattr(config, "intermediate_size", None) or 4 * dim
    device = table.device
    half = fast and fast_dtype(device).itemsize == 2
    size = 2 if half else 4
    states = min(tokens * dim * size, Keep().memory * 2**30) + tokens * 80
    head = vocab * dim * (2 * half + 4 * (table.element_size() < 4))
    parameters = sum(p.numel() for p in model.parameters())
    at_once = _TOKENS_AT_ONCE.get(device.type, 16384)
    trunk = at_once * (12 * dim + 4 * width) * 4
    if half and table.element_size() == 4:
        trunk += (parameters - vocab * dim) * 2
    scores = Head(table, None).chunk_tokens * vocab * 20
    maps = 32 * (parts * dim) ** 2
    rest = LIBRARIES if device.type == "cpu" else 0
    return int(states + head + max(trunk, scores + maps) + rest)
