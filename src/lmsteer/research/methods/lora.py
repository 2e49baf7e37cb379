"""LoRA on every linear layer of the trunk, by PEFT (Hu et al. 2021)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...states import Progress
from ...text import Example, sides
from .adapters import Adapter, adapter_of, peft_module, wrapped
from .finetune import finetune
from .method import Method

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RANK, RATE = 8, 1e-3


class LoRA(Method):
    """One adapter per side, trained on the texts of that side; the strength is its scale.

    At strength 1 the adapter acts as it was trained, at 0.5 with half of its product, and so on.
    """

    name = "lora"
    order = 90
    in_paper = True
    extra = "peft"
    source = "Hu et al. 2021, by PEFT; fine-tuned on each side as DAPT is; scales other than 1 ours"
    frozen = False
    strengths = (0.5, 1.0, 1.5)

    def __init__(self, adapters: tuple[Adapter, Adapter], rank: int) -> None:
        self.adapters, self.rank = adapters, rank
        self.parameters = sum(value.numel() for value in adapters[0].values())

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        rank: int = RANK,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Train two adapters, one per side; see `Method.fit`.

        Args:
            model: The base model.
            tokenizer: The model's own tokenizer.
            examples: Labelled texts, with labels of both signs.
            rank: The rank of each adapter.
            seed: The seed of the adapters' first values and of the order of the texts.
            progress: Called as ``progress(stage, done, total)``.

        Raises:
            MissingExtraError: PEFT is not installed.
            InputError: All examples are of one side.
        """
        options: dict[str, Any] = {"rank": rank, "seed": seed, "progress": progress}
        above, below = sides(examples)
        return cls(
            (
                fit_adapter(model, tokenizer, above, stage="fit +", **options),
                fit_adapter(model, tokenizer, below, stage="fit -", **options),
            ),
            rank,
        )

    @contextlib.contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[PreTrainedModel]:
        """The same model with adapters in its linear layers; taken out afterwards."""
        if not strength:
            yield model
            return
        peft = peft_module()
        with wrapped(model, _config(self.rank)) as inside:
            peft.set_peft_model_state_dict(inside, self.adapters[0 if strength > 0 else 1])
            for module in inside.modules():
                if isinstance(module, peft.tuners.lora.LoraLayer):
                    module.set_scale("default", abs(strength))
            yield model


def fit_adapter(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    rank: int = RANK,
    **options: Any,
) -> Adapter:
    """One LoRA adapter, fine-tuned on the examples; labels are ignored.

    Args:
        model: The base model; it is left as it came.
        tokenizer: The model's own tokenizer.
        examples: The texts to learn from.
        rank: The rank of the adapter.
        **options: Further options of `finetune`.
    """
    with wrapped(model, _config(rank), seed=options.get("seed", 0)) as inside:
        learned = [p for p in model.parameters() if p.requires_grad]
        finetune(model, tokenizer, examples, learned, rate=RATE, **options)
        return adapter_of(inside)


def _config(rank: int) -> Any:
    # "all-linear" leaves the head out: it is the trunk that learns.
    return peft_module().LoraConfig(
        task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear"
    )
