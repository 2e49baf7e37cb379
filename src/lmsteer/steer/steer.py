"""`Steer`: a learned linear map on word embeddings, and where it came from.

A row vector ``h`` (a hidden state at the output site, an embedding at the input site)
becomes ``h + strength * (h @ P) @ Q.T``. Han et al. 2024, section 3: at the output site
``P @ Q.T`` is the paper's W, because the score ``c^T (I + eps W) e`` is the unchanged head
applied to ``c + eps W^T c``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, MismatchError
from .factors import balanced_factors, check_factors, check_rank, factors_of, svd_of
from .fingerprint import Fingerprint
from .keeping import Keeper
from .naming import check_name
from .sites import Reach, Site, check_sites, reach_text

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, eq=False)
class Steer:
    """A linear map on word embeddings with a name; a value, never changed in place.

    Strength is not part of it: give one to `attach` or `generate`. Two steers are equal only if
    they are the same object, so steers serve as dictionary keys.

    Args:
        P: ``(dim, rank)``, float32.
        Q: ``(dim, rank)``, float32. A row ``h`` becomes ``h + strength * (h @ P) @ Q.T``.
        name: What people call it: text without control characters, such as line breaks.
        site: ``"output"`` (just before the head) or ``"input"`` (just after embedding look-up).
        domain: What all of the training text shares, whatever its label (the paper's "dummy"
            steer), or None. Used only when it is itself given a strength.
        fingerprint: The table it was learned on, or None when unknown.
        record: How it was made, JSON-like: data digest and counts, solver, held-out figures.
        where: What it was trained to act on: ``"all"`` positions, or the ``"prompt"`` alone.
            `attach` and `generate` keep to this unless they are told otherwise.

    Raises:
        InputError: Shapes that do not fit, values that are not finite, an unknown site or `where`,
            a name that cannot be shown, a domain part that acts elsewhere.
    """

    P: Float[Tensor, "dim rank"]
    Q: Float[Tensor, "dim rank"]
    name: str = "steer"
    site: Site = "output"
    domain: Steer | None = None
    fingerprint: Fingerprint | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    where: Reach = "all"

    keeper: ClassVar[Keeper[Steer]]

    def __post_init__(self) -> None:
        check_name(self.name)
        check_sites(self.site, self.where)
        check_factors(self.P, self.Q, self.name)
        if self.domain is not None and self.domain.dim != self.dim:
            raise InputError(
                f"the domain part must have the same dim as the steer ({self.dim}), "
                f"was: {self.domain.dim}"
            )
        if self.domain is not None and self.domain.where != self.where:
            raise InputError(
                f"the domain part must have the same where as the steer ({self.where!r}), "
                f"was: {self.domain.where!r}"
            )
        # fp32 masters on the CPU; an attachment casts its own copy at the boundary.
        object.__setattr__(self, "P", self.P.detach().to("cpu", torch.float32, copy=True))
        object.__setattr__(self, "Q", self.Q.detach().to("cpu", torch.float32, copy=True))
        object.__setattr__(self, "record", MappingProxyType(dict(self.record)))

    @classmethod
    def from_matrix(
        cls,
        W: Float[Tensor, "dim dim"],
        rank: int | None = None,
        *,
        name: str = "steer",
        site: Site = "output",
        domain: Steer | None = None,
        fingerprint: Fingerprint | None = None,
        record: Mapping[str, Any] | None = None,
        where: Reach = "all",
    ) -> Self:
        """The steer whose `matrix` is ``W``, or its best rank-``rank`` approximation.

        Args:
            W: ``(dim, dim)``; a row ``h`` becomes ``h + strength * h @ W``.
            rank: Number of singular directions kept, 1 to dim; all of them by default.
            name: As for `Steer`, like the arguments after it.
            site: The embeddings it acts on.
            domain: Its domain part.
            fingerprint: The table it belongs to.
            record: How it was made.
            where: What it acts on.
        """
        P, Q = factors_of(W, rank)
        return cls(P, Q, name, site, domain, fingerprint, record or {}, where)

    @property
    def dim(self) -> int:
        """Width of the embeddings it acts on."""
        return self.P.shape[0]

    @property
    def rank(self) -> int:
        """Number of columns kept in P and Q."""
        return self.P.shape[1]

    def matrix(self) -> Float[Tensor, "dim dim"]:
        """The map itself, ``P @ Q.T``, float32: a row h becomes ``h + strength * h @ matrix``."""
        return self.P @ self.Q.T

    @property
    def digest(self) -> str:
        """SHA-256 of the numbers and of what they act on, the domain part's included."""
        found = hashlib.sha256(self.P.numpy().tobytes() + self.Q.numpy().tobytes())
        if self.where != "all":  # steers of old keep the digest they had
            found.update(self.where.encode())
        if self.domain is not None:
            found.update(self.domain.digest.encode())
        return found.hexdigest()

    def renamed(self, name: str) -> Steer:
        """The same map under another name."""
        return replace(self, name=name, record=dict(self.record))

    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """Singular value decomposition of the matrix, ``left @ diag(scale) @ right.T``, float64.

        Through its small core: exact, and never forms a ``(dim, dim)`` matrix.

        Returns:
            ``(dim, rank)``, ``(rank,)`` falling, ``(dim, rank)``.
        """
        return svd_of(self.P, self.Q)

    def truncate(self, rank: int) -> tuple[Steer, float]:
        """Best approximation of lower rank, in the Frobenius norm of the matrix.

        Returns:
            The steer (domain part untouched), and ``||W - W_rank|| / ||W||``, in [0, 1].
        """
        check_rank(rank, self.rank)
        left, scale, right = self.svd()
        P, Q = balanced_factors(left, scale, right.T, rank)
        total = float(scale.square().sum())
        lost = float(scale[rank:].square().sum())
        error = (lost / total) ** 0.5 if total > 0 else 0.0
        record = _plain(self.record) | {"truncated": {"from": self.rank, "relative_error": error}}
        return replace(self, P=P, Q=Q, record=record), error

    def __mul__(self, factor: float) -> Steer:
        """The map times a number; the domain part stays as it is."""
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            return NotImplemented
        record = _plain(self.record) | {"scaled_by": self.record.get("scaled_by", 1.0) * factor}
        return replace(self, Q=self.Q * factor, record=record)

    __rmul__ = __mul__

    def __neg__(self) -> Steer:
        """The opposite style; the domain part stays as it is."""
        return -1.0 * self

    def __add__(self, other: Steer) -> Steer:
        """The sum of both maps: ranks concatenate, and the domain parts are dropped.

        Raises:
            MismatchError: Another site, `where`, dim or base model.
        """
        if not isinstance(other, Steer):
            return NotImplemented
        if (self.site, self.dim) != (other.site, other.dim):
            raise MismatchError(
                f"only steers of the same site and dim can be added; {self.name!r} is "
                f"{self.site}/{self.dim}, {other.name!r} is {other.site}/{other.dim}"
            )
        if self.where != other.where:
            raise MismatchError(
                f"{self.name!r} acts on {reach_text(self.where)} and {other.name!r} on "
                f"{reach_text(other.where)}, so they cannot be one steer; attach them side by side"
            )
        mine, theirs = self.fingerprint, other.fingerprint
        if mine is not None and theirs is not None and not mine.matches(theirs):
            raise MismatchError(
                f"{self.name!r} was trained on {mine.model!r} and {other.name!r} on "
                f"{theirs.model!r}: carry one over with lmsteer.transfer first"
            )
        return replace(
            self,
            P=torch.cat([self.P, other.P], dim=1),
            Q=torch.cat([self.Q, other.Q], dim=1),
            name=f"{self.name}+{other.name}",
            domain=None,
            fingerprint=mine or theirs,
            record={"sum_of": [_plain(self.record), _plain(other.record)]},
        )

    def save(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Write the steer as a folder; see `lmsteer.storage.save_steer`."""
        self.keeper.save_steer(self, path, force=force)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Steer:
        """Read a folder that `save` wrote; see `lmsteer.storage.read_steer`."""
        return cls.keeper.read_steer(path)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None) -> str:
        """Put the steer on the Hub with a model card; see `lmsteer.storage.push_steer`."""
        return self.keeper.push_steer(self, repo_id, private=private)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | PathLike[str], *, revision: str | None = None
    ) -> Steer:
        """Read a folder, or a repository of the Hub; see `lmsteer.storage.pull_steer`."""
        if Path(name_or_path).is_dir():
            return cls.load(name_or_path)
        return cls.keeper.pull_steer(str(name_or_path), revision=revision)

    def __repr__(self) -> str:
        prompt = ", on the prompt alone" if self.where == "prompt" else ""
        domain = ", with domain" if self.domain is not None else ""
        shape = f"dim={self.dim}, rank={self.rank}"
        return f"Steer({self.name!r}, {self.site}{prompt}, {shape}{domain})"


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what holds for the very same map alone."""
    return {k: v for k, v in record.items() if k not in {"calibration", "effect", "samples"}}
