"""`merge`: a plain model with steers in its weights, which runs anywhere at no extra cost."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import UnsupportedError
from ..steer import Steer, change, resolve_strength
from .attachment import attach
from .identity import check_everywhere, check_fit
from .modes import evaluating
from .tables import decoder_start, head_of, input_device, input_tables, text_config
from .wrappers import has_adapter, learned_prompt, name_of, unwrap


@torch.no_grad()
def merge(
    model: nn.Module, strengths: Mapping[Steer, float | str], *, in_place: bool = False
) -> nn.Module:
    """A model whose own weights hold the steers at fixed strengths.

    At the output site the head's rows become ``e + strength * (e @ Q) @ P.T``, at the input site
    the table's rows ``e + strength * (e @ P) @ Q.T``; both are computed in float32 and rounded to
    the model's dtype once. A head that is tied to the input table is untied first, so that only
    the steered site changes; the model is then larger by one table.

    Args:
        model: Any language model with a plain linear head, without attached steers or adapters of
            PEFT.
        strengths: The signed strength of each steer, or a word for calibrated ones, as in `attach`.
        in_place: Change `model` itself instead of a copy, where memory is short. This cannot be
            undone.

    Returns:
        The merged model, of the class of the model itself (of the one inside, where `model` is a
        wrapper such as torch.compile's): save it with ``save_pretrained``.

    Raises:
        MismatchError: A steer is of another model.
        UnsupportedError: The head is quantised; a steer acts on the prompt alone; or the scores of
            the merged model differ from the steered model's (this is checked on a few tokens; with
            `in_place` the model is then unusable).
    """
    for steer in strengths:
        check_fit(model, steer)
    fixed = {steer: resolve_strength(steer, s) for steer, s in strengths.items()}
    fixed = {steer: s for steer, s in fixed.items() if s}
    for steer in fixed:
        check_everywhere(steer, "a merged model")
    _check_no_adapters(model)
    model = unwrap(model)
    head = head_of(model)
    if type(head) is not nn.Linear or not head.weight.is_floating_point():
        raise UnsupportedError(
            f"merging needs a plain linear head, this one is a {type(head).__name__}; merge into "
            "the unquantised model, then quantise"
        )
    is_tied = head.weight.data_ptr() == input_tables(model)[0].weight.data_ptr()
    if fixed and is_tied and decoder_start(model) is not None:
        raise UnsupportedError(
            f"{type(model).__name__} has a head tied to its embeddings, and ties it again whenever "
            "it is loaded, so a merged copy could not be saved; attach the steer instead"
        )
    with attach(model, fixed):
        wanted = _probe(model)
    merged: nn.Module = model if in_place else copy.deepcopy(model)
    tables = input_tables(merged)
    if fixed and is_tied:
        untie(merged, head_of(merged))
    for site, weight in (("output", head_of(merged).weight), ("input", tables[0].weight)):
        here = {steer: s for steer, s in fixed.items() if steer.site == site}
        if here:
            weight.copy_(steered_rows(weight, here))
    found = _probe(merged)
    worst = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6))
    if not worst <= 16 * torch.finfo(head.weight.dtype).eps + 1e-4:
        raise UnsupportedError(
            f"{type(model).__name__} cannot be merged: its scores differ from the steered model's "
            f"by {worst:.2g} (relative). Its head may be tied in a way that also scales it; attach "
            "the steer instead"
        )
    return merged


def _check_no_adapters(model: nn.Module) -> None:
    """Raise for adapters and learned prompts: a merged model is saved without them."""
    inside = unwrap(model)
    adapted = [m for m in inside.modules() if has_adapter(m)]
    if adapted or learned_prompt(model) is not None:
        found = f"{type(adapted[0]).__name__} layers" if adapted else name_of(model)
        raise UnsupportedError(
            f"merging needs a model without adapters of PEFT, this one has {found}: merge these "
            "first (merge_and_unload of the PEFT model), or attach the steer instead"
        )


def steered_rows(
    rows: Float[Tensor, "words dim"], strengths: Mapping[Steer, float]
) -> Float[Tensor, "words dim"]:
    """The rows of a table with steers of one site in them, in float32; all act on the base rows.

    At the output site ``e + strength * (e @ Q) @ P.T``, at the input site the map itself.
    """
    base = total = rows.float()
    for steer, strength in strengths.items():
        P, Q = steer.P.to(base), steer.Q.to(base)
        first, second = (Q, P) if steer.site == "output" else (P, Q)
        total = total + change(base, first, second, strength)
    return total


def untie(model: Any, head: Any) -> None:
    """Give the head a table of its own, and say so in the configuration, which saving reads."""
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in (model.config, text_config(model)):
        config.tie_word_embeddings = False
    name = next(name for name, module in model.named_modules() if module is head)
    name = name.removesuffix(".base_layer")  # under PEFT
    keys = getattr(model, "all_tied_weights_keys", {})  # transformers 5 keeps them from loading
    for key in [k for k, v in keys.items() if f"{name}.weight" in (k, v)]:
        del keys[key]


def _probe(model: Any) -> Tensor:
    ids = torch.arange(8, device=input_device(model))[None]
    given = {"input_ids": ids}
    if decoder_start(model) is not None:
        given["decoder_input_ids"] = ids
    with evaluating(model):
        logits: Tensor = model(**given, use_cache=False).logits.float()
    return logits
