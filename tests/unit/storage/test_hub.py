"""Steers on the Hub, through huggingface_hub's own seams."""

import inspect
import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

import lmsteer
from lmsteer.errors import InputError, NotFoundError
from lmsteer.model.identity import fingerprint
from lmsteer.storage.hub import pull_steer, push_steer


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Repositories as folders; every call must fit the real function's signature."""
    calls = []

    def bound(real, *args, **kwargs):
        call = inspect.signature(real).bind(*args, **kwargs)
        calls.append((real.__name__, dict(call.arguments)))
        return call.arguments

    real = {name: getattr(huggingface_hub.HfApi, name) for name in ("create_repo", "upload_folder")}
    download = huggingface_hub.snapshot_download

    def create_repo(self, *args, **kwargs):
        bound(real["create_repo"], self, *args, **kwargs)

    def upload_folder(self, *args, **kwargs):
        given = bound(real["upload_folder"], self, *args, **kwargs)
        target = tmp_path / "hub" / given["repo_id"]
        target.mkdir(parents=True, exist_ok=True)
        for name in given["allow_patterns"]:
            shutil.copy(given["folder_path"] / name, target / name)
        return SimpleNamespace(commit_url=f"https://hub/{given['repo_id']}/commit/1")

    def snapshot_download(*args, **kwargs):
        given = bound(download, *args, **kwargs)
        folder = tmp_path / "hub" / given["repo_id"]
        if not folder.is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError("not there")
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return SimpleNamespace(calls=calls, folder=tmp_path / "hub")


@pytest.fixture
def whole(steer, llama):
    llama.config._name_or_path = "someone/model"
    domain = lmsteer.Steer(steer.Q, steer.P, "whole.domain")
    return lmsteer.Steer(steer.P, steer.Q, "whole", "output", domain, fingerprint(llama), {"n": 1})


def test_pushed_then_pulled_is_the_same_steer(hub, whole, llama):
    address = whole.push_to_hub("user/whole", private=True)
    assert address == "https://hub/user/whole/commit/1"
    name, given = hub.calls[0]
    assert (name, given["private"], given["exist_ok"]) == ("create_repo", True, True)
    assert hub.calls[1][1]["commit_message"] == "Steer whole"
    for again in (
        lmsteer.Steer.from_pretrained("user/whole", revision="main"),
        lmsteer.Steer.from_pretrained(hub.folder / "user" / "whole"),
        lmsteer.load_steer("user/whole", llama),
    ):
        assert torch.equal(again.P, whole.P)
        assert torch.equal(again.domain.Q, whole.domain.Q)
        assert dict(again.record) == {"n": 1}
    assert [given["revision"] for name, given in hub.calls if name == "snapshot_download"] == [
        "main",
        None,
    ]


def test_the_card_has_tags_base_model_and_samples(hub, whole):
    push_steer(whole, "user/whole", samples=[(2.0, "so | good\nindeed"), (-2, "b*** <b>")])
    card = (hub.folder / "user" / "whole" / "README.md").read_text()
    front, body = card.split("---\n")[1:3]
    assert "base_model: someone/model" in front
    assert "library_name: lmsteer" in front
    assert "lm-steer" in front
    assert "| +2 | so \\| good indeed |" in body
    assert r"| -2 | b\*\*\* &lt;b> |" in body
    again = pull_steer("user/whole")
    assert again.record["samples"][0] == {"strength": 2.0, "text": "so | good\nindeed"}
    assert "samples" not in (2 * again).record  # they were written by the very same map


def test_what_the_hub_refuses_is_told(hub, whole, monkeypatch):
    for name in ("whole", "/whole", "a/b/c"):
        with pytest.raises(InputError, match="such as user/name"):
            push_steer(whole, name)

    def refused(self, *args, **kwargs):
        raise huggingface_hub.errors.HFValidationError("no such user")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refused)
    with pytest.raises(InputError, match="no such user.*hf auth login"):
        push_steer(whole, "user/whole")
    with pytest.raises(NotFoundError, match="no folder 'user/none'"):
        pull_steer("user/none")
