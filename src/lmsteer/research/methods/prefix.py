"""Prefix tuning: keys and values that every layer sees before the text (Li and Liang 2021)."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import UnsupportedError
from ...model import cache_name, head_of, input_device, read_hidden
from ...states import Progress
from ...text import Example, encode, sides
from .adapters import Adapter, adapter_of, peft_module, wrapped
from .finetune import MAX_LENGTH, finetune
from .method import Method, side_of
from .past import with_past

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RATE = 1e-2
RANK = 32
"""The rank of the steer that has about as many numbers as the prefix has by default."""


class PrefixTuning(Method):
    """One learned prefix per side, trained on the texts of that side; it is on or off.

    The prefix is learned as it is, without the network that the paper reparametrises it by while
    it trains, and begins as the keys and values of real tokens (the paper, section 7.4).
    """

    name = "prefix"
    order = 80
    extra = "peft"
    source = "Li and Liang 2021, by PEFT; without reparametrisation"
    generate_options = {"share_prompts": False}  # noqa: RUF012 - a ClassVar of Method

    def __init__(self, adapters: tuple[Adapter, Adapter], tokens: int) -> None:
        self.adapters, self.tokens = adapters, tokens
        self.parameters = sum(value.numel() for value in adapters[0].values())

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        tokens: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Train two prefixes, one per side; see `Method.fit`.

        Args:
            model: The base model.
            tokenizer: The model's own tokenizer.
            examples: Labelled texts, with labels of both signs.
            tokens: The length of the prefix in virtual tokens. By default the prefix has about as
                many numbers as a steer of rank 32, ``2 * dim * 32``.
            seed: The seed of the order of the texts.
            progress: Called as ``progress(stage, done, total)``.

        Raises:
            MissingExtraError: PEFT is not installed.
            InputError: All examples are of one side.
            UnsupportedError: The layers of the model do not have keys and values of one shape.
        """
        above, below = sides(examples)
        if tokens is None:
            dim = head_of(model).in_features
            with wrapped(model, _config(1)) as inside:
                one = sum(value.numel() for value in adapter_of(inside).values())
            tokens = max(1, round(2 * dim * RANK / one))
        options: dict[str, Any] = {"seed": seed, "progress": progress}
        return cls(
            (
                fit_prefix(model, tokenizer, above, tokens, stage="fit +", **options),
                fit_prefix(model, tokenizer, below, tokens, stage="fit -", **options),
            ),
            tokens,
        )

    @contextlib.contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[PreTrainedModel]:
        """The model, reading every text after the prefix; strength -1, 0 or 1."""
        side = side_of(self.name, strength)
        if side is None:
            yield model
            return
        with wrapped(model, _config(self.tokens)) as inside, torch.no_grad():
            peft_module().set_peft_model_state_dict(inside, self.adapters[side])
            past = inside.get_prompt(batch_size=1)
        with with_past(model, past):
            yield model


def fit_prefix(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    tokens: int,
    **options: Any,
) -> Adapter:
    """One prefix, fine-tuned on the examples; labels are ignored.

    Args:
        model: The base model; it is left as it came.
        tokenizer: The model's own tokenizer.
        examples: The texts to learn from.
        tokens: The length of the prefix in virtual tokens.
        **options: Further options of `finetune`.
    """
    start = _real_prefix(model, tokenizer, examples, tokens)
    with wrapped(model, _config(tokens)) as inside:
        learned = [p for p in inside.parameters() if p.requires_grad]
        if len(learned) != 1 or learned[0].shape != start.shape:
            raise UnsupportedError(
                f"prefix tuning needs layers that keep keys and values of one shape; "
                f"{type(model).__name__} keeps {tuple(start.shape)}, PEFT would learn "
                f"{[tuple(p.shape) for p in learned]}"
            )
        with torch.no_grad():
            learned[0].copy_(start)
        finetune(inside, tokenizer, examples, learned, rate=RATE, **options)
        return adapter_of(inside)


@torch.no_grad()
def _real_prefix(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    tokens: int,
) -> Float[Tensor, "tokens numbers"]:
    """Keys and values of the first tokens of the examples, in PEFT's order."""
    from transformers import DynamicCache

    encoded = encode(tokenizer, examples, max_length=MAX_LENGTH)
    stream = itertools.cycle(itertools.chain.from_iterable(encoded.ids))
    ids = torch.tensor([list(itertools.islice(stream, tokens))], device=input_device(model))
    cache: Any = DynamicCache(config=model.config)
    read_hidden(model, input_ids=ids, use_cache=True, **{cache_name(model): cache})
    pairs = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    return torch.stack([part[0].transpose(0, 1) for part in pairs], dim=1).flatten(1)


def _config(tokens: int) -> Any:
    return peft_module().PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=tokens)
