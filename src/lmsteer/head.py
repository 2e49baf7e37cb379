"""A model's embedding tables, read-only: the head as a function, and fingerprints."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .errors import UnsupportedError
from .steer import Fingerprint, Site

_SKETCH_SIDE = 16
_ROWS_A_CHUNK = 8192
# Scores held at once, tokens x vocab, so that memory does not grow with data; at least so many
# tokens, since fewer would read the whole head for little work.
_SCORES_AT_ONCE, _FEWEST_TOKENS = 1 << 22, 256


def head_of(model: nn.Module) -> nn.Linear:
    """The module that turns hidden states into scores.

    Raises:
        UnsupportedError: The model has no output embeddings.
    """
    get: Any = getattr(model, "get_output_embeddings", None)
    head: nn.Linear | None = None if get is None else get()
    if head is None:
        raise UnsupportedError(
            f"{type(model).__name__} has no output embeddings; load the model with "
            "AutoModelForCausalLM (or AutoModelForSeq2SeqLM), not AutoModel"
        )
    return head


def decoder_start(model: nn.Module) -> int | None:
    """The token that the decoder of an encoder-decoder model begins with; None for other models."""
    config: Any = model.config
    if not getattr(config, "is_encoder_decoder", False):
        return None
    for place in (config, getattr(model, "generation_config", None)):
        start = getattr(place, "decoder_start_token_id", None)
        if start is not None:
            return int(start)
    raise UnsupportedError(
        f"{type(model).__name__} does not say what its decoder begins with; set "
        "model.config.decoder_start_token_id"
    )


def input_device(model: nn.Module) -> torch.device:
    """Where token ids go, also where accelerate has spread a model or put parts of it on disk."""
    return _device(input_tables(model)[0])


def head_device(model: nn.Module) -> torch.device:
    """Where the head computes."""
    return _device(head_of(model))


def head_dtype(model: nn.Module) -> torch.dtype:
    """What the head computes in, also a quantised one."""
    numbers = (p.dtype for p in head_of(model).parameters() if p.is_floating_point())
    return next(numbers, torch.float32)


def _device(module: nn.Module) -> torch.device:
    weight = next(itertools.chain(module.parameters(), module.buffers()))
    if weight.device.type != "meta":
        return weight.device
    # accelerate keeps the weights elsewhere and brings them here when the module runs.
    return torch.device(getattr(getattr(module, "_hf_hook", None), "execution_device", "cpu"))


def input_tables(model: nn.Module) -> list[nn.Embedding]:
    """Every embedding module that holds the input table (T5 and BART have several)."""
    get: Any = model.get_input_embeddings
    table = get()
    return [
        module
        for module in model.modules()
        if module is table
        or (
            isinstance(module, nn.Embedding) and module.weight.data_ptr() == table.weight.data_ptr()
        )
    ]


def text_config(model: nn.Module) -> Any:
    """The configuration of the language part of a model."""
    config: Any = model.config
    return config.get_text_config()


@dataclass(frozen=True, eq=False)
class Head:
    """Scores of the vocabulary as a plain function of hidden rows.

    ``logits = softcap * tanh(scale * (h @ weight.T + bias) / softcap)``, without the tanh where
    `softcap` is None. `hidden.read_head` builds one and checks it against the model's own output.
    """

    weight: Float[Tensor, "vocab dim"]
    bias: Float[Tensor, " vocab"] | None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows vocab"]:
        """Scores as the model itself computes them."""
        scores = nn.functional.linear(hidden, self.weight, self.bias)
        return self.finish(scores)

    def chunks(self, count: int) -> Iterator[slice]:
        """`count` rows in parts small enough for the scores of the whole vocabulary."""
        size = self.chunk_tokens
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    @property
    def chunk_tokens(self) -> int:
        """Tokens whose scores are held at once."""
        return max(_FEWEST_TOKENS, _SCORES_AT_ONCE // self.weight.shape[0])

    def finish(self, scores: Tensor) -> Tensor:
        """What the model does to the scores after the head: a scale, a soft-cap, or nothing."""
        if self.scale != 1.0:
            scores = scores * self.scale
        if self.softcap is None:
            return scores
        return torch.tanh(scores / self.softcap) * self.softcap

    def finish_(self, scores: Tensor) -> Tensor:
        """The bias, and `finish`, on the scores in place."""
        if self.bias is not None:
            scores += self.bias
        if self.scale != 1.0:
            scores *= self.scale
        if self.softcap is not None:
            scores.div_(self.softcap).tanh_().mul_(self.softcap)
        return scores

    def fast(self) -> Head:
        """The same head for approximate work: bf16 where this device multiplies bf16 natively."""
        dtype = fast_dtype(self.weight.device)
        bias = None if self.bias is None else self.bias.to(dtype)
        return replace(self, weight=self.weight.to(dtype), bias=bias)

    @property
    def is_linear(self) -> bool:
        """True when scores are affine in the hidden row, which makes training convex."""
        return self.softcap is None


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware has products of it, several times faster; else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.13
    is_able = device.type == "cpu" and (able.get("amx_bf16") or able.get("avx512_bf16"))
    return torch.bfloat16 if is_able else torch.float32


def _is_plain(weight: Tensor) -> bool:
    """True for numbers in memory; quantised weights are other types, or integers."""
    is_number = type(weight.data) is Tensor and weight.is_floating_point()
    return is_number and weight.device.type != "meta"


def affine(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of an affine module, also of a quantised or wrapped one."""
    if type(module) is nn.Linear and _is_plain(module.weight):
        bias = module.bias
        return module.weight.detach(), None if bias is None else bias.detach()
    device = _device(module)
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    eye = torch.eye(
        int(module.in_features),  # type: ignore[arg-type]
        device=device,
        dtype=dtype,
    )
    # Not called as a module: a steer that is attached would be read along.
    bias = module.forward(torch.zeros_like(eye[:1]))[0]
    return (module.forward(eye) - bias).T, bias


def fingerprint(model: nn.Module, site: Site = "output") -> Fingerprint:
    """Sketch of the table that a steer of this site acts on; kept per table until it changes."""
    module = head_of(model) if site == "output" else input_tables(model)[0]
    weight = module.weight
    place = weight.data_ptr() if _is_plain(weight) else id(weight)
    state = (place, weight._version, tuple(weight.shape))
    if module not in _SKETCHES or _SKETCHES[module][0] != state:
        table = affine(module)[0] if site == "output" else weight.detach()
        _SKETCHES[module] = (state, _sketch(table))
    # A local folder's path is nobody else's business; its last part is its name.
    name = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
    name = Path(name).name if Path(name).is_dir() else name
    revision = getattr(model.config, "_commit_hash", None)
    return Fingerprint(sketch=_SKETCHES[module][1], model=name, revision=revision)


@torch.no_grad()
def sample_digest(model: nn.Module) -> str:
    """SHA-256 over a few values of every parameter: other weights, another digest; in no time."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, parameter in model.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
        if _is_plain(parameter):
            flat = parameter.flatten()
            step = max(1, len(flat) // 64)
            digest.update(repr(flat[::step].tolist()).encode())
    return digest.hexdigest()


_SKETCHES: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], Tensor]] = WeakKeyDictionary()


@torch.no_grad()
def _sketch(table: Float[Tensor, "vocab dim"]) -> Float[Tensor, " sketch"]:
    """Left and right projection by fixed signs; a function of the rows' ids, not of their count."""
    right = _signs(table.shape[1], 1).to(table.device)
    total = torch.zeros(_SKETCH_SIDE, _SKETCH_SIDE, device=table.device)
    left = _signs(table.shape[0], 2).to(table.device)
    for start in range(0, table.shape[0], _ROWS_A_CHUNK):
        rows = slice(start, start + _ROWS_A_CHUNK)
        total += left[rows].T @ (table[rows].float() @ right)
    sketch: Tensor = (total / total.norm().clamp_min(1e-30)).flatten().cpu()
    return sketch


def _signs(count: int, salt: int) -> Float[Tensor, "count side"]:
    """Fixed +-1 by integer hashing (splitmix64's steps), the same on every machine and version."""
    x = torch.arange(count * _SKETCH_SIDE, dtype=torch.int64) + (salt << 40)
    for multiplier in (-7046029254386353131, -4658895280553007687, -7723592293110705685):
        x = (x ^ (x >> 27)) * multiplier
    return ((x >> 33) & 1).mul(2).sub(1).float().view(count, _SKETCH_SIDE)
