"""A model's embedding tables, read-only: the head as a function, and fingerprints."""

from __future__ import annotations

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
from .sketch import is_plain, sketch
from .steer import Fingerprint, Site
from .wrappers import has_adapter, plain_layer, unwrap

# Scores held at once, tokens x vocab, so that memory does not grow with data; at least so many
# tokens, since fewer would read the whole head for little work.
_SCORES_AT_ONCE, _FEWEST_TOKENS = 1 << 22, 256


def head_of(model: nn.Module) -> Any:
    """The module that turns hidden states into scores: an nn.Linear, or what stands for one.

    Raises:
        UnsupportedError: The model has no output embeddings.
    """
    return _embeddings(model, "output")


def _embeddings(model: nn.Module, site: Site) -> Any:
    inside = unwrap(model)
    get: Any = getattr(inside, f"get_{site}_embeddings", None)
    found: nn.Module | None = None if get is None else get()
    if found is None:
        raise UnsupportedError(
            f"{type(inside).__name__} has no {site} embeddings; load the model with "
            "AutoModelForCausalLM (or AutoModelForSeq2SeqLM), not AutoModel; where this is "
            "something wrapped around a model, give the model inside it"
        )
    return found


def head_dim(model: nn.Module) -> int:
    """Width of the rows that the head reads."""
    head = head_of(model)
    # Packed weights of quantised heads have another shape; wrappers of a head may lack the number.
    return int(getattr(head, "in_features", None) or head.weight.shape[1])


def decoder_start(model: nn.Module) -> int | None:
    """The token that the decoder of an encoder-decoder model begins with; None for other models."""
    inside = unwrap(model)
    config: Any = inside.config
    if not getattr(config, "is_encoder_decoder", False):
        return None
    for place in (config, getattr(inside, "generation_config", None)):
        start = getattr(place, "decoder_start_token_id", None)
        if start is not None:
            return int(start)
    raise UnsupportedError(
        f"{type(inside).__name__} does not say what its decoder begins with; set "
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


def input_tables(model: nn.Module) -> list[Any]:
    """Every nn.Embedding that looks words up in the input table (T5 and BART have several).

    An adapter around a table (PEFT's LoRA, a trained copy) stands for it: what comes out of the
    adapter is what the trunk reads, so the table inside is not named once more.
    """
    table = _embeddings(model, "input")
    places = {_place(m.weight) for m in table.modules() if isinstance(m, nn.Embedding)}

    def is_table(module: nn.Module) -> bool:
        return isinstance(module, nn.Embedding) and _place(module.weight) in places

    found: list[Any] = [
        module
        for module in unwrap(model).modules()
        if module is table
        or is_table(module)
        or (has_adapter(module) and any(map(is_table, module.modules())))
    ]
    within = {inner for outer in found for inner in outer.modules() if inner is not outer}
    return [module for module in found if module not in within]


def _place(weight: Tensor) -> object:
    """Where a table's numbers lie; of one that accelerate keeps elsewhere, its shape alone."""
    return tuple(weight.shape) if weight.device.type == "meta" else weight.data_ptr()


def text_config(model: nn.Module) -> Any:
    """The configuration of the language part of a model."""
    config: Any = unwrap(model).config
    return config.get_text_config()


def is_stateful(model: nn.Module) -> bool:
    """True for models that keep a state of what they have read instead of keys and values."""
    return bool(getattr(unwrap(model), "_is_stateful", False))


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


def affine(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of an affine module, also of a quantised or wrapped one."""
    if type(module) is nn.Linear and is_plain(module.weight):
        bias = module.bias
        return module.weight.detach(), None if bias is None else bias.detach()
    device = _device(module)
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    width: Any = getattr(module, "in_features", None) or module.weight.shape[1]  # type: ignore[index]
    eye = torch.eye(int(width), device=device, dtype=dtype)
    # Not called as a module: a steer that is attached would be read along.
    bias = module.forward(torch.zeros_like(eye[:1]))[0]
    return (module.forward(eye) - bias).T, bias


def fingerprint(model: nn.Module, site: Site = "output") -> Fingerprint:
    """Sketch of the table that a steer of this site acts on; kept per table until it changes."""
    # Of the table itself: adapters leave the embeddings in their directions.
    module = plain_layer(head_of(model) if site == "output" else input_tables(model)[0])
    weight = module.weight
    place = weight.data_ptr() if is_plain(weight) else id(weight)
    version = 0 if weight.is_inference() else weight._version
    state = (place, version, tuple(weight.shape))
    if module not in _SKETCHES or _SKETCHES[module][0] != state:
        table = affine(module)[0] if site == "output" else _rows(module)
        _SKETCHES[module] = (state, sketch(table))
    # A local folder's path is nobody else's business; its last part is its name.
    inside: Any = unwrap(model)
    name = str(getattr(inside.config, "_name_or_path", "") or type(inside).__name__)
    name = Path(name).name if Path(name).is_dir() else name
    revision = getattr(inside.config, "_commit_hash", None)
    return Fingerprint(sketch=_SKETCHES[module][1], model=name, revision=revision)


def _rows(table: Any) -> Tensor:
    """The rows of an input table, also where accelerate brings them only when it is asked."""
    if table.weight.device.type != "meta":
        rows: Tensor = table.weight.detach()
        return rows
    every: Tensor = table.forward(torch.arange(table.weight.shape[0], device=_device(table)))
    return every


_SKETCHES: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], Tensor]] = WeakKeyDictionary()
