"""How well a map separates the labels for what it moves the model: what ranks and ridges compete in.

For a small map both are simple sums over tokens. With ``d = h W`` and a label y, the NLL under the
flipped label exceeds the one under the right label by ``2 y (e_x - b) . d``, and the divergence
from the base model is half the variance of ``e_v . d`` over the words v that the model expects.
Their ratio, separation by the root of divergence, does not depend on the scale of the map. The
total NLL would be the wrong judge: most of what it gains is the domain's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..model import Head
from ..states import States
from .expectation import expected, pulled_to

TOKENS = 2048
"""The number of held-out tokens that are looked at."""
WORDS = 32
"""The number of words that are drawn per token from what the model expects."""


@dataclass(frozen=True, eq=False)
class Separation:
    """Held-out tokens, and what the model expects at each: the head has read them once.

    Args:
        seen: The tokens, with unsteered rows.
        labels: ``(tokens, styles)``, the centred labels of their texts.
        pull: ``(tokens, dim)``, ``e_x - b``: where the target pulls, against what is expected.
        words: ``(tokens, words, dim)``, the embeddings of words that were drawn from the model's
            distribution at each token, in the head's dtype.
    """

    seen: States
    labels: Float[Tensor, "tokens styles"]
    pull: Float[Tensor, "tokens dim"]
    words: Float[Tensor, "tokens words dim"]

    @classmethod
    @torch.no_grad()
    def of(cls, head: Head, held_out: States, centre: Float[Tensor, " styles"]) -> Separation:
        """Look at some held-out tokens; `centre` is the mean of the labels learned from."""
        seen = held_out.spread(TOKENS)
        pull, words = [seen.hidden.new_empty(0, seen.hidden.shape[1]).float()], []
        draw = torch.Generator(device=seen.device).manual_seed(0)
        for part in head.chunks(len(seen.hidden)):
            mean, chance, slope = expected(head, seen.hidden[part])
            pull.append(pulled_to(head, seen.hidden[part], seen.targets[part]) - mean)
            ids = chance.multinomial(WORDS, replacement=True, generator=draw)
            slope = slope if isinstance(slope, float) else slope.gather(1, ids)[..., None]
            words.append((head.weight[ids] * slope).to(head.weight.dtype))
        return cls(seen, seen.labels - centre, torch.cat(pull), torch.cat(words))

    @torch.no_grad()
    def of_map(self, W: Float[Tensor, "dim dim"], style: int) -> float:
        """Separation by the root of divergence, of one style's map; 0 for a map of zeros."""
        moved = self.seen.hidden.float() @ W
        labels, weights = self.labels[:, style], self.seen.weights
        parted = float((2.0 * labels * weights * (self.pull * moved).sum(-1)).sum())
        lifted = (self.words @ moved.to(self.words)[..., None])[..., 0].float()
        diverged = float((0.5 * labels.square() * weights * lifted.var(-1)).sum())
        total = float(weights.sum())
        parted, diverged, total = self.seen.workers.add_numbers(
            parted, diverged, total, device=self.seen.device
        )
        return parted / total / ((diverged / total) ** 0.5 or float("inf"))
