"""How well a map separates the labels, for what it moves the model: the judge of ridges and ranks.

For a small map both are simple sums over tokens. With ``d = h W`` and a label y, the NLL under the
flipped label exceeds the one under the right label by ``2 y (e_x - b) . d``, and the divergence
from the base model is half the variance of ``e_v . d`` over the words v that the model expects.
Their ratio, separation by the root of divergence, does not depend on the scale of the map. The
total NLL would be the wrong judge: most of what it gains is the domain's. So would sums be: they
know the expected embedding and the variance as linear and mean values alone, and a step goes where
these err in its favour (on `bundled` they see 1.5 times the separation and 0.4 of the divergence).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..model import Head, expected, pulled_to
from ..states import States

TOKENS = 2048
"""The number of held-out tokens that are looked at."""
WORDS = 32
"""The number of words that stand for the model's distribution at each token."""


@dataclass(frozen=True, eq=False)
class Separation:
    """Held-out tokens, and what the model expects at each: the head has read them once.

    Args:
        seen: The tokens, with unsteered rows.
        labels: ``(tokens, styles)``, the centred labels of their texts.
        pull: ``(tokens, dim)``, ``e_x - b``: where the target pulls, against what is expected.
        words: ``(tokens, words, dim)``, the embeddings of words at even steps of the model's
            cumulative distribution at each token, in the head's dtype.
    """

    seen: States
    labels: Float[Tensor, "tokens styles"]
    pull: Float[Tensor, "tokens dim"]
    words: Float[Tensor, "tokens words dim"]

    @classmethod
    @torch.no_grad()
    def of(cls, head: Head, held_out: States, middle: Float[Tensor, " styles"]) -> Separation:
        """Look at some held-out tokens; `middle` is the mean of the labels learned from."""
        seen = held_out.spread(TOKENS)
        pull, words = [seen.hidden.new_empty(0, seen.hidden.shape[1]).float()], []
        # Evenly spaced points of the cumulative distribution: as good as draws, and the same in
        # however many processes.
        points = (torch.arange(WORDS, device=seen.device) + 0.5) / WORDS
        for part in head.chunks(len(seen.hidden)):
            centre, chance, slope = expected(head, seen.hidden[part])
            pull.append(pulled_to(head, seen.hidden[part], seen.targets[part]) - centre)
            ids = torch.searchsorted(chance.cumsum(-1), points.expand(len(chance), -1).contiguous())
            ids = ids.clamp_max(chance.shape[1] - 1)
            slope = slope if isinstance(slope, float) else slope.gather(1, ids)[..., None]
            words.append((head.weight[ids] * slope).to(head.weight.dtype))
        return cls(seen, seen.labels - middle, torch.cat(pull), torch.cat(words))

    @torch.no_grad()
    def efficiency(self, W: Float[Tensor, "dim dim"], style: int) -> float:
        """Separation by the root of divergence, of one style's map, to second order.

        Args:
            W: The map; its size has no say, and one of zeros has the efficiency 0.
            style: The number of the style, whose labels are separated.
        """
        labels, moved = self.labels[:, style], self.seen.hidden.float() @ W
        lifted = (self.words @ moved.to(self.words)[..., None])[..., 0].float()
        weights = self.seen.weights / self.seen.weights.sum()
        parted = float(weights @ (2.0 * labels * (self.pull * moved).sum(-1)))
        diverged = float(weights @ (0.5 * labels.square() * lifted.var(-1)))
        return parted / (diverged**0.5 or float("inf"))
