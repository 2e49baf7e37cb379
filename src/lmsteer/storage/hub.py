"""Steers on the Hugging Face Hub: the folder of `storage`, card included, as a repository."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError, NotFoundError
from ..steer import Steer
from .facts import FACTS
from .layout import CARD, TENSORS
from .steers import read_steer, save_steer


def push_steer(
    steer: Steer,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    samples: Sequence[tuple[float, str]] = (),
    token: str | None = None,
) -> str:
    """Put a steer on the Hub, with its model card: base model, strengths, samples.

    Args:
        steer: The steer to upload, with its domain part. The texts that it was trained on are not
            uploaded.
        repo_id: The repository, ``"user/name"``; it is made if it does not exist.
        private: Whether a new repository is private; None takes the default of your account.
        revision: The branch to write to; it must exist.
        message: The message of the commit.
        samples: Texts for the card, each with the strength at which it was written. Mask what may
            offend (`lmsteer.metrics.masked`; the command line does so).
        token: A token for the Hub; by default the one that ``hf auth login`` keeps.

    Returns:
        The address of the commit.

    Raises:
        InputError: A `repo_id` of another form, or an upload that the Hub refused.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        raise InputError(f"expected a repository such as user/name, was: {repo_id!r}")
    if samples:
        rows = [{"strength": float(strength), "text": text} for strength, text in samples]
        steer = replace(steer, record={**steer.record, "samples": rows})
    api = HfApi(token=token)
    try:
        with tempfile.TemporaryDirectory() as space:
            folder = Path(space) / "steer"
            save_steer(steer, folder)
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit: Any = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=revision,
                commit_message=message or f"Steer {steer.name}",
                allow_patterns=[TENSORS, FACTS, CARD],
            )
    except (HfHubHTTPError, HFValidationError) as error:
        raise InputError(
            f"the Hub did not take {repo_id!r}: {error}. Log in with hf auth login, or give a "
            "token that may write there"
        ) from error
    return str(commit.commit_url)


def pull_steer(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Steer:
    """Fetch a steer from the Hub, or from its cache where it is there already.

    Args:
        repo_id: The repository, ``"user/name"``.
        revision: A branch, tag or commit.
        token: A token for private repositories; by default the one that ``hf auth login`` keeps.

    Raises:
        NotFoundError: No such repository, or no way to reach it.
        ArtefactError: A repository that is not a steer.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo_id, revision=revision, token=token, allow_patterns=[TENSORS, FACTS, CARD]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise NotFoundError(
            f"no folder {repo_id!r}, and the Hub did not give one of that name: {error}"
        ) from error
    return read_steer(folder)
