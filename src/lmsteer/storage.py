"""The artefact on disk: a folder of ``steer.safetensors``, ``steer.json`` and a model card.

Nothing is ever unpickled. A folder is written whole beside its place and then moved there, so a
failure leaves what was there before.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .attachment import check_fit
from .card import card
from .errors import ArtefactError, InputError, MismatchError, NotFoundError
from .steer import Fingerprint, Steer

SCHEMA = 1
TENSORS, FACTS, CARD = "steer.safetensors", "steer.json", "README.md"


def save_steer(steer: Steer, path: str | PathLike[str], *, force: bool = False) -> None:
    """Write a steer as a folder.

    Args:
        steer: What to write, its domain part included.
        path: The folder to make; its parents are made too.
        force: Replace a steer that is already there. Any other folder is never replaced.

    Raises:
        InputError: `path` exists and may not be replaced.
    """
    folder = Path(path)
    check_writable(folder, force=force)
    tensors = {"P": steer.P, "Q": steer.Q}
    facts: dict[str, Any] = {
        "format": "lmsteer",
        "schema": SCHEMA,
        "name": steer.name,
        "site": steer.site,
        "where": steer.where,
        "dim": steer.dim,
        "rank": steer.rank,
        "label": "strength 1 is what training used for a text labelled +1",
        "base_model": None,
        "record": dict(steer.record),
        "domain": None,
    }
    if steer.fingerprint is not None:
        tensors["fingerprint"] = steer.fingerprint.sketch
        facts["base_model"] = {
            "name": steer.fingerprint.model,
            "revision": steer.fingerprint.revision,
        }
    if steer.domain is not None:
        tensors |= {"domain.P": steer.domain.P, "domain.Q": steer.domain.Q}
        facts["domain"] = {"rank": steer.domain.rank, "record": dict(steer.domain.record)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as fresh:
        save_file({k: v.contiguous() for k, v in tensors.items()}, fresh / TENSORS)
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
        (fresh / FACTS).write_text(text + "\n", encoding="utf-8")
        (fresh / CARD).write_text(card(steer), encoding="utf-8")


def check_writable(path: str | PathLike[str], *, force: bool) -> None:
    """Raise InputError where `save_steer` would refuse to write; call it before long work."""
    folder = Path(path)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / FACTS).is_file():
        raise InputError(
            f"{folder} exists and is not a steer, so it is left alone; choose another name"
        )
    if not force:
        raise InputError(
            f"{folder} exists already; choose another name, or replace it with force=True (--force)"
        )


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill, moved to `folder` at the end, or removed if anything fails."""
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    old = fresh.with_name(fresh.name + ".old")
    try:
        yield fresh
        # mkdtemp makes private folders; a steer should be as readable as any other new folder.
        umask = os.umask(0)
        os.umask(umask)
        fresh.chmod(0o777 & ~umask)
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_steer(path: str | PathLike[str]) -> Steer:
    """Read a folder that `save_steer` wrote.

    Raises:
        NotFoundError: No such folder.
        ArtefactError: A folder that is incomplete, damaged, from a newer version, or not a steer.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise NotFoundError(f"no steer at {folder}: expected a folder with {FACTS} and {TENSORS}")
    facts = _facts(folder)
    try:
        tensors = load_file(folder / TENSORS)
    except FileNotFoundError as error:
        raise ArtefactError(f"{folder} has no {TENSORS}; copy the whole folder again") from error
    except (SafetensorError, OSError) as error:
        raise ArtefactError(
            f"{folder / TENSORS} is damaged or not a safetensors file ({error}); "
            "copy or train it again"
        ) from error
    wanted = {"P": facts["rank"], "Q": facts["rank"]}
    if facts["domain"] is not None:
        wanted |= {"domain.P": facts["domain"]["rank"], "domain.Q": facts["domain"]["rank"]}
    for key, rank in wanted.items():
        shape = tuple(tensors[key].shape) if key in tensors else None
        if shape != (facts["dim"], rank):
            raise ArtefactError(
                f"{folder / TENSORS}: expected {key} of shape {(facts['dim'], rank)} as {FACTS} "
                f"says, was: {shape or 'missing'}"
            )
    return _build(folder, facts, tensors)


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtefactError(f"{folder} is not a steer: it has no {FACTS}") from error
    except ValueError as error:
        raise ArtefactError(f"{folder / FACTS} is not JSON ({error}); copy it again") from error
    if not isinstance(facts, dict) or facts.get("format") != "lmsteer":
        raise ArtefactError(f"{folder / FACTS} was not written by lmsteer")
    if facts.get("schema") != SCHEMA:
        raise ArtefactError(
            f"{folder} has schema {facts.get('schema')!r}, this version reads {SCHEMA}; "
            "upgrade lmsteer"
        )
    missing = {"name", "site", "dim", "rank", "record", "domain", "base_model"} - set(facts)
    if missing:
        raise ArtefactError(f"{folder / FACTS} lacks {', '.join(sorted(missing))}; copy it again")
    return facts


def _build(folder: Path, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Steer:
    mark = None
    if facts["base_model"] is not None and "fingerprint" in tensors:
        mark = Fingerprint(
            sketch=tensors["fingerprint"],
            model=facts["base_model"]["name"],
            revision=facts["base_model"]["revision"],
        )
    name, site = facts["name"], facts["site"]
    # Folders of old have it in the record alone.
    where = facts.get("where", facts["record"].get("where", "all"))
    try:
        part = None
        if facts["domain"] is not None:
            P, Q = tensors["domain.P"], tensors["domain.Q"]
            record = facts["domain"]["record"]
            part = Steer(P, Q, f"{name}.domain", site, None, mark, record, where)
        return Steer(tensors["P"], tensors["Q"], name, site, part, mark, facts["record"], where)
    except InputError as error:
        raise ArtefactError(f"{folder}: {error}") from error


def shipped_steers(model: nn.Module | None = None) -> dict[str, list[Steer]]:
    """Steers that come with the package, by name; those made for `model` alone if it is given."""
    found: dict[str, list[Steer]] = {}
    root = Path(str(resources.files("lmsteer") / "models" / "steers"))
    for facts in sorted(root.glob(f"*/*/{FACTS}")):
        steer = read_steer(facts.parent)
        if model is not None:
            try:
                check_fit(model, steer)
            except MismatchError:
                continue
        found.setdefault(steer.name, []).append(steer)
    return found


def load_steer(name: str | PathLike[str], model: nn.Module) -> Steer:
    """Find a steer by name and check that it was made for this model.

    Args:
        name: A folder, else the name of a steer shipped for this model, else a Hub id
            (``user/name``). With ``.domain`` at the end, the steer's domain part.
        model: The model it will be attached to.

    Raises:
        NotFoundError: Nothing goes by that name.
        ArtefactError: What goes by that name cannot be read.
        MismatchError: It was made for another model.
    """
    name = str(name)
    if name.endswith(".domain") and not Path(name).exists():
        whole = load_steer(name.removesuffix(".domain"), model)
        if whole.domain is None:
            raise NotFoundError(f"{whole.name!r} was trained without a domain part")
        return whole.domain
    if Path(name).is_dir():
        steer = read_steer(name)
    else:
        shipped = shipped_steers(model)
        if name in shipped:
            return shipped[name][0]
        if name.count("/") != 1 or Path(name).exists():
            raise NotFoundError(
                f"no steer {name!r}: no folder of that name, and shipped for this model are: "
                f"{', '.join(shipped) or 'none'}. Train one with lmsteer.train (lmsteer train)"
            )
        from .hub import pull_steer

        steer = pull_steer(name)
    check_fit(model, steer)
    return steer
