"""`Steer`: a learned linear map on word embeddings, what it costs, and where it came from."""

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

from ..errors import InputError
from .calibration import Calibration
from .effect import Effect
from .factors import balanced_factors, check_factors, check_rank, factors_of, svd_of
from .fingerprint import Fingerprint
from .formula import change
from .keeping import Keeper
from .naming import check_name
from .provenance import carried_over, scaled
from .sites import Reach, Site, check_addable, check_sites

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, eq=False)
class Steer:
    """A linear map on word embeddings with a name; a value, never changed in place.

    Strength is not part of it: give one to `attach` or `generate`. Two steers are equal only if
    they are the same object, so steers serve as dictionary keys.

    Args:
        P: The first factor, ``(dim, rank)``, float32.
        Q: The second factor, ``(dim, rank)``, float32. A row ``h`` becomes
            ``h + strength * (h @ P) @ Q.T``.
        name: What people call it: text without control characters, such as line breaks.
        site: ``"output"`` (just before the head) or ``"input"`` (just after embedding look-up).
        domain: What all of the training text shares, whatever its label (the paper's "dummy"
            steer), or None. It acts only when it is itself given a strength.
        fingerprint: The table that it was learned on, or None when unknown.
        record: How it was made, JSON-like: digest and counts of the data, solver, held-out
            figures. It is for people to read; nothing in the package acts on it.
        where: What it was trained to act on: ``"all"`` positions, or the ``"prompt"`` alone.
            `attach` and `generate` keep to this unless they are told otherwise.
        calibration: What each strength costs (`lmsteer.calibrate`), or None. It holds for this
            very map, so a steer that is made from this one has none.
        effect: What each strength does to sampled text, or None. It too holds for this very map.

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
    calibration: Calibration | None = None
    effect: Effect | None = None

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
            W: The map, ``(dim, dim)``; a row ``h`` becomes ``h + strength * h @ W``.
            rank: The number of singular directions to keep, 1 to dim; by default all of them.
            name: What people call it.
            site: The embeddings that it acts on.
            domain: Its domain part.
            fingerprint: The table that it belongs to.
            record: How it was made.
            where: The positions that it acts on.
        """
        P, Q = factors_of(W, rank)
        return cls(P, Q, name, site, domain, fingerprint, record or {}, where)

    @property
    def dim(self) -> int:
        """The width of the embeddings that it acts on."""
        return self.P.shape[0]

    @property
    def rank(self) -> int:
        """The number of columns of P and Q."""
        return self.P.shape[1]

    def matrix(self) -> Float[Tensor, "dim dim"]:
        """The map itself, ``P @ Q.T``, float32: a row h becomes ``h + strength * h @ matrix``."""
        return self.P @ self.Q.T

    def shift(
        self, rows: Float[Tensor, "*rows dim"], strength: float
    ) -> Float[Tensor, "*rows dim"]:
        """The steered rows, ``h + strength * (h @ P) @ Q.T`` (Han et al. 2024, section 3).

        Args:
            rows: Unsteered rows of any dtype and device, to which the factors are cast.
            strength: A signed number; at 0 the rows come back unchanged.
        """
        return rows + change(rows, self.P.to(rows), self.Q.to(rows), strength)

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
        return replace(self, name=name)

    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """The singular value decomposition of the matrix, ``left @ diag(scale) @ right.T``.

        It is exact, in float64, and forms no ``(dim, dim)`` matrix.

        Returns:
            ``left``, ``(dim, rank)``; ``scale``, ``(rank,)``, from the largest to the smallest;
            ``right``, ``(dim, rank)``.
        """
        return svd_of(self.P, self.Q)

    def truncate(self, rank: int) -> tuple[Steer, float]:
        """The best approximation of lower rank, in the Frobenius norm of the matrix.

        Args:
            rank: The number of singular directions to keep, 1 to the steer's rank.

        Returns:
            The steer, whose domain part is untouched, and what it loses: the relative error
            ``||W - W_rank|| / ||W||``, in [0, 1].
        """
        check_rank(rank, self.rank)
        left, scale, right = self.svd()
        P, Q = balanced_factors(left, scale, right.T, rank)
        total = float(scale.square().sum())
        lost = float(scale[rank:].square().sum())
        error = (lost / total) ** 0.5 if total > 0 else 0.0
        note = {"truncated": {"from": self.rank, "relative_error": error}}
        return self._with(P, Q, carried_over(self.record) | note), error

    def __mul__(self, factor: float) -> Steer:
        """The map times a number; the domain part stays as it is."""
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            return NotImplemented
        return self._with(self.P, self.Q * factor, scaled(self.record, factor))

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
        check_addable(self, other)
        total = self._with(
            torch.cat([self.P, other.P], dim=1),
            torch.cat([self.Q, other.Q], dim=1),
            {"sum_of": [carried_over(self.record), carried_over(other.record)]},
        )
        known = self.fingerprint or other.fingerprint
        return replace(total, name=f"{self.name}+{other.name}", domain=None, fingerprint=known)

    def _with(self, P: Tensor, Q: Tensor, record: Mapping[str, Any]) -> Steer:
        """This steer with another map, of which nothing has been measured."""
        return replace(self, P=P, Q=Q, record=record, calibration=None, effect=None)

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
