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
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import InputError, MismatchError
from .naming import check_name

if TYPE_CHECKING:
    from typing import Self

Site = Literal["output", "input"]
SITES: tuple[Site, ...] = get_args(Site)
Reach = Literal["all", "prompt"]
REACHES: tuple[Reach, ...] = get_args(Reach)

# Two sketches of one head agree to cosine 0.9999 even after 8-bit quantisation; heads of
# different models are nearly orthogonal.
SAME_MODEL_COSINE = 0.99

FACTOR_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprint:
    """Which embedding table a steer was learned on.

    Args:
        sketch: A fixed random projection of the table, float32, any length; compared by cosine,
            so that bf16, quantised, untied and vocabulary-padded copies still match.
        model: Name or path of the base model, for people.
        revision: Its commit on the Hub, if known.
    """

    sketch: Float[Tensor, " sketch"]
    model: str = ""
    revision: str | None = None

    def similarity(self, other: Fingerprint) -> float:
        """Cosine of the two sketches, in [-1, 1]."""
        return float(torch.nn.functional.cosine_similarity(self.sketch, other.sketch, dim=0))

    def matches(self, other: Fingerprint) -> bool:
        """True when both were taken from copies of one table."""
        same_size = self.sketch.shape == other.sketch.shape
        return same_size and self.similarity(other) >= SAME_MODEL_COSINE


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

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.site not in SITES:
            raise InputError(f"site must be one of {SITES}, was: {self.site!r}")
        if not isinstance(self.where, str) or self.where not in REACHES:
            raise InputError(f"where must be one of {REACHES}, was: {self.where!r}")
        if self.P.ndim != 2 or self.P.shape != self.Q.shape or self.P.shape[1] == 0:
            raise InputError(
                "P and Q must both have shape (dim, rank) with rank >= 1, "
                f"were: {tuple(self.P.shape)} and {tuple(self.Q.shape)}"
            )
        for factor, values in (("P", self.P), ("Q", self.Q)):
            if values.dtype not in FACTOR_DTYPES:
                raise InputError(
                    f"{factor} of steer {self.name!r} must hold floating-point numbers of 16 to 64 "
                    f"bits, was: {values.dtype}"
                )
            # As float32, in which they are kept and in which larger numbers are infinite.
            if not torch.isfinite(values.float()).all():
                raise InputError(
                    f"{factor} of steer {self.name!r} holds NaN or infinite values; "
                    "train it again, or fetch the file again if it was downloaded"
                )
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
        if W.ndim != 2 or W.shape[0] != W.shape[1]:
            raise InputError(f"W must be a square matrix, was: {tuple(W.shape)}")
        if not torch.isfinite(W).all():
            raise InputError("W holds NaN or infinite values")
        rank = W.shape[0] if rank is None else rank
        _check_rank(rank, W.shape[0])
        left, scale, right_t = torch.linalg.svd(W.detach().double().cpu())
        P, Q = _balanced_factors(left, scale, right_t, rank)
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
        basis_p, core_p = torch.linalg.qr(self.P.double())
        basis_q, core_q = torch.linalg.qr(self.Q.double())
        left, scale, right_t = torch.linalg.svd(core_p @ core_q.T, full_matrices=False)
        return basis_p @ left, scale, basis_q @ right_t.T

    def truncate(self, rank: int) -> tuple[Steer, float]:
        """Best approximation of lower rank, in the Frobenius norm of the matrix.

        Returns:
            The steer (domain part untouched), and ``||W - W_rank|| / ||W||``, in [0, 1].
        """
        _check_rank(rank, self.rank)
        left, scale, right = self.svd()
        P, Q = _balanced_factors(left, scale, right.T, rank)
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
                f"{self.name!r} acts on {_told(self.where)} and {other.name!r} on "
                f"{_told(other.where)}, so they cannot be one steer; attach them side by side"
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
        from .storage import save_steer

        save_steer(self, path, force=force)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Steer:
        """Read a folder that `save` wrote; see `lmsteer.storage.read_steer`."""
        from .storage import read_steer

        return read_steer(path)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None) -> str:
        """Put the steer on the Hub with a model card; see `lmsteer.hub.push_steer`."""
        from .hub import push_steer

        return push_steer(self, repo_id, private=private)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | PathLike[str], *, revision: str | None = None
    ) -> Steer:
        """Read a folder, or a repository of the Hub; see `lmsteer.hub.pull_steer`."""
        if Path(name_or_path).is_dir():
            return cls.load(name_or_path)
        from .hub import pull_steer

        return pull_steer(str(name_or_path), revision=revision)

    def __repr__(self) -> str:
        prompt = ", on the prompt alone" if self.where == "prompt" else ""
        domain = ", with domain" if self.domain is not None else ""
        shape = f"dim={self.dim}, rank={self.rank}"
        return f"Steer({self.name!r}, {self.site}{prompt}, {shape}{domain})"


def _told(where: Reach) -> str:
    return "the prompt alone" if where == "prompt" else "every position"


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what holds for the very same map alone."""
    return {
        key: value
        for key, value in record.items()
        if key not in {"calibration", "effect", "samples"}
    }


def _check_rank(rank: int, most: int) -> None:
    if not 1 <= rank <= most:
        raise InputError(f"rank must be between 1 and {most}, was: {rank}")


def _balanced_factors(
    left: Tensor, scale: Tensor, right_t: Tensor, rank: int
) -> tuple[Tensor, Tensor]:
    """P, Q with P @ Q.T = left diag(scale) right_t, cut to `rank`, of equal norm columnwise."""
    root = scale[:rank].sqrt()
    return left[:, :rank] * root, right_t[:rank].T * root
