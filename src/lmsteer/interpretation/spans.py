"""Where in a text the evidence for a style lies: likelihood at +s against -s, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..states import Progress
from ..steer import Steer
from ..text import target_spans
from .likelihood import Likelihood, likelihood

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Token:
    """A token of a text.

    Args:
        start: The place of its first character.
        end: The place after its last character.
        ratio: The log-probability at strength +s minus that at -s, in nats: above 0 the token
            speaks for the style.
    """

    start: int
    end: int
    ratio: float


@dataclass(frozen=True)
class Span:
    """A run of whole words.

    Args:
        start: The place of its first character.
        end: The place after its last character.
        ratio: The sum of the ratios of its tokens, in nats.
    """

    start: int
    end: int
    ratio: float


@dataclass(frozen=True)
class Evidence:
    """A text read by a steer.

    Args:
        text: The text as it was given.
        tokens: The tokens that the model could judge. The first token is missing where nothing
            precedes it, and so are tokens past the model's context.
        spans: The best spans, in the order of the text.
        ratio: The sum of the ratios of all tokens, in nats.
    """

    text: str
    tokens: list[Token]
    spans: list[Span]
    ratio: float


def evidence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steer: Steer,
    texts: Sequence[str],
    *,
    strength: float = 1.0,
    spans: int = 3,
    domain: bool = True,
    progress: Progress | None = None,
) -> list[Evidence]:
    """Which parts of texts speak for a style, and which against it.

    The frozen trunk reads each text once; only the head is run at both strengths.

    Args:
        model: A causal language model.
        tokenizer: The tokenizer of the model.
        steer: A steer at the output site, learned on `model`.
        texts: The texts to read. An empty text has no evidence, nor has a single token that nothing
            precedes.
        strength: The strength s, above 0.
        spans: The largest number of spans per text.
        domain: Whether the domain part, if the steer has one, is on at both strengths: then both
            sides are in-domain.
        progress: Called as ``progress("read", done, total)``.

    Source: Han et al. 2024, section 5.
    """
    check_options(strength, spans)
    read = likelihood(
        model,
        tokenizer,
        steer,
        texts,
        (strength, -strength),
        domain=domain,
        progress=progress,
    )
    return evidence_in(read, tokenizer, texts, strength=strength, spans=spans)


def check_options(strength: float, spans: int) -> None:
    """Raise InputError unless `strength` is above 0 and `spans` is 0 or more."""
    if strength <= 0 or spans < 0:
        raise InputError(
            f"strength must be above 0 and spans 0 or more, were: {strength} and {spans}"
        )


def evidence_in(
    read: Likelihood | None,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    strength: float,
    spans: int,
) -> list[Evidence]:
    """The evidence in texts whose likelihood is known at `strength` and its negative."""
    found = [Evidence(text, [], [], 0.0) for text in texts]
    if read is None:
        return found
    ratios = read.by_text(read.column(strength) - read.column(-strength))
    places = target_spans(tokenizer, texts, read.encoded)
    for number, ratio, place in zip(read.encoded.source, ratios, places, strict=True):
        tokens = [Token(a, b, float(r)) for (a, b), r in zip(place, ratio, strict=True)]
        text = texts[number]
        found[number] = Evidence(text, tokens, best_spans(text, tokens, spans), float(ratio.sum()))
    return found


def best_spans(text: str, tokens: Sequence[Token], count: int) -> list[Span]:
    """At most `count` disjoint runs of words with the greatest sum of absolute ratios, exactly."""
    words = _words(text, tokens)
    chosen = best_runs(np.array([word.ratio for word in words]), count)
    found = []
    for start, end in chosen:
        first, last = words[start].start, words[end - 1].end
        # A token may begin with the space before its word.
        first += len(text[first:last]) - len(text[first:last].lstrip())
        last = first + len(text[first:last].rstrip())
        found.append(Span(first, last, sum(word.ratio for word in words[start:end])))
    return found


def best_runs(values: np.ndarray, count: int) -> list[tuple[int, int]]:
    """At most `count` disjoint runs ``[start, end)`` whose ``sum_i |sum(run_i)|`` is greatest.

    Dynamic programming over the values: the best total after each of them, by how many runs were
    begun and by what goes on (nothing, a run counted as positive, a run counted as negative);
    O(values x count).
    """
    size = len(values)
    if not size or count < 1:
        return []
    # best[k, state]: k runs begun, state 0 outside, 1 in a positive run, 2 in a negative one.
    best = np.full((count + 1, 3), -np.inf)
    best[0, 0] = 0.0
    came = np.zeros((size, count + 1, 3), dtype=np.int8)
    fresh = np.full((count + 1, 1), -np.inf)
    before = np.zeros((count + 1, 1), dtype=np.int8)
    states = np.arange(1, 3, dtype=np.int8)
    steps = np.outer(values, [1.0, -1.0])
    for place in range(size):
        # Whence each state is reached: outside, from any state; in a run, from the same run, or
        # (told as 3 and more) from any state with one run fewer, which begins a new one.
        origin, top = best.argmax(1), best.max(1)
        fresh[1:, 0], before[1:, 0] = top[:-1], origin[:-1]
        begins = fresh > best[:, 1:]
        came[place, :, 0] = origin
        came[place, :, 1:] = np.where(begins, 3 + before, states)
        best[:, 1:] = np.maximum(best[:, 1:], fresh) + steps[place]
        best[:, 0] = top
    k, state = divmod(int(best.argmax()), 3)
    runs: list[tuple[int, int]] = []
    end = size
    for place in range(size - 1, -1, -1):
        step = int(came[place, k, state])
        if state == 0:
            state, end = step, place
        elif step >= 3:
            runs.append((place, end))
            k, state, end = k - 1, step - 3, place
    return runs[::-1]


def _words(text: str, tokens: Sequence[Token]) -> list[Token]:
    """Tokens joined to words: a span should not cut one."""
    words: list[Token] = []
    for token in tokens:
        glued = (
            words
            and token.start < len(text)
            and words[-1].end >= token.start
            and token.start > 0
            and not text[token.start].isspace()
            and not text[token.start - 1].isspace()
        )
        if glued and (text[token.start].isalnum() == text[token.start - 1].isalnum()):
            last = words.pop()
            token = Token(last.start, max(last.end, token.end), last.ratio + token.ratio)
        words.append(token)
    return words
