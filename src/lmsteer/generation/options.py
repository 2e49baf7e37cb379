"""The options of everything that samples text, each declared once."""

# No `from __future__ import annotations`: the declarations are read when the program runs.
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from ..states import Check, JobOptions, Option, Options, at_least

Nucleus = Literal["steered", "base"]
Where = Literal["trained", "all", "prompt", "response"]


class SamplingOptions(JobOptions, total=False):
    """The options that calibration and self-training hand on to `generate`."""

    max_new_tokens: Annotated[
        int, Option(40, "The length of the longest continuation, in tokens.", at_least(1))
    ]
    top_p: Annotated[
        float,
        Option(
            1.0,
            "The share of the probability that sampling is limited to (nucleus sampling): only the "
            "likeliest tokens whose probabilities together reach `top_p` are drawn.",
            Check("above 0 and at most 1", lambda value: 0 < value <= 1),
        ),
    ]
    batch_size: Annotated[
        int,
        Option(
            64,
            "The number of texts that are written at once.",
            at_least(1),
            decides=False,
        ),
    ]


class GenerateOptions(SamplingOptions, total=False):
    """The options of `generate` and `stream`."""

    samples: Annotated[
        int, Option(1, "The number of continuations per prompt and strengths.", at_least(1))
    ]
    per_prompt: Annotated[
        bool,
        Option(False, "Take `strengths` as one mapping per prompt instead of crossing the two."),
    ]
    min_new_tokens: Annotated[
        int, Option(0, "The number of tokens before which no text may end.", at_least(0))
    ]
    temperature: Annotated[
        float,
        Option(
            1.0,
            "The number that the scores are divided by before sampling; at 0 the likeliest token "
            "is always taken.",
            Check("0 or more", lambda value: value >= 0),
        ),
    ]
    nucleus: Annotated[
        Nucleus | str,
        Option(
            "steered",
            "The model whose probabilities decide which tokens are in the nucleus. "
            '``"steered"``: the steered model, from which the tokens are drawn. ``"base"``: the '
            "unsteered model; the steers then choose among the tokens that the model itself finds "
            "likely, as in DExperts. Text stays coherent at strengths where it would otherwise "
            "fall apart, at the cost of one more product with the head per token. The steered "
            "probabilities are the same.",
            Check('"steered" or "base"', lambda value: value in ("steered", "base")),
        ),
    ]
    beams: Annotated[
        int,
        Option(
            1,
            "The number of beams. More than 1 means beam search instead of sampling: the `samples` "
            "best texts are returned, at most `beams`.",
            at_least(1),
        ),
    ]
    share_prompts: Annotated[
        bool,
        Option(
            True,
            "Read each prompt once for all its samples and strengths (with steers at the input "
            "site, once per strength).",
            decides=False,
        ),
    ]
    fast: Annotated[
        bool,
        Option(
            False,
            "Compute in bf16 where the hardware multiplies it natively, also for a model in "
            "float32. On a CPU it takes a little over half the time. The scores differ by about a "
            "percent, so that a text may differ from some token on.",
        ),
    ]
    losses: Annotated[
        bool,
        Option(
            False,
            "Keep in `Generation.losses` how likely the model without steers finds each token that "
            "was drawn. It takes one more product with the head per token, which is quicker than "
            "reading the texts again; not for beam search, nor with steers at the input site.",
        ),
    ]
    chat: Annotated[
        bool,
        Option(
            False,
            "Treat each prompt as a user's turn of a conversation with a chat model. Records then "
            "hold the prompt as the model reads it, in its chat template.",
        ),
    ]
    where: Annotated[
        Where | str,
        Option(
            "trained",
            "The positions that are steered, as in `attach`: by default each steer acts on the "
            "positions that it was trained for.",
        ),
    ]
    generate_kwargs: Annotated[
        Mapping[str, Any],
        Option({}, "Arguments that are passed on to the model's own ``generate``."),
    ]


OPTIONS = Options(GenerateOptions)
