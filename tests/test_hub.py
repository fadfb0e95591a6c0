"""Pulling from a local hub: whole, interrupted, wrong, missing."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from fake_hub import CUT, REVISION, FakeHub
from unixcxr import hub
from unixcxr.errors import ModelError, OutputError, WeightsError

REPO = "someone/tiny"
WEIGHTS = "model.safetensors"
FOLDER = "someone--tiny"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Serve a tiny model; pulls land in `tmp_path`."""
    weights = save({"a": np.arange(5000, dtype=np.float32)})
    files = {"config.json": b"{}", WEIGHTS: weights, "vae/config.yaml": b"x: 1\n", "teaser.png": b"no"}
    with FakeHub(REPO, files) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            running.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setenv("UNIXCXR_MODELS", str(tmp_path))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
        yield running


def pull(lines: list[str] | None = None) -> Path:
    return hub.pull(REPO, (lines if lines is not None else []).append)


def test_a_pull_brings_every_file_and_says_where_from(server: FakeHub, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = pull(lines)
    assert folder == tmp_path / FOLDER
    for name in ("config.json", WEIGHTS, "vae/config.yaml"):
        assert (folder / name).read_bytes() == server.files[name]
    assert not (folder / "teaser.png").exists()
    receipt = json.loads((folder / hub.RECEIPT).read_text())
    assert (receipt["revision"], receipt["licence"]) == (REVISION, "cc0-1.0")
    assert hub.damage(folder) == []
    assert hub.licence_of(folder) == "cc0-1.0"
    assert list(hub.pulled_models()) == [(REPO, folder)]
    assert len(lines) == 3


def test_a_second_pull_downloads_nothing(server: FakeHub) -> None:
    pull()
    count = len(server.ranges)
    pull()
    assert len(server.ranges) == count


def test_a_dropped_connection_continues_within_the_file(server: FakeHub) -> None:
    server.cut_once = WEIGHTS
    folder = pull()
    assert (folder / WEIGHTS).read_bytes() == server.files[WEIGHTS]
    assert (WEIGHTS, CUT) in server.ranges


def test_an_interrupted_pull_is_no_model_and_goes_on_later(server: FakeHub, tmp_path: Path) -> None:
    server.cut_once, server.refuse_after_cut = WEIGHTS, True
    with pytest.raises(ModelError, match=r"500.*again to go on"):
        pull()
    assert list(hub.pulled_models()) == []
    assert not (tmp_path / FOLDER).exists()
    server.cut_once = None
    server.ranges.clear()
    folder = pull()
    assert (folder / WEIGHTS).read_bytes() == server.files[WEIGHTS]
    assert server.ranges[0] == (WEIGHTS, CUT)
    assert list(folder.rglob("*.partial")) == []


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_wrong_bytes_are_refused(server: FakeHub, tmp_path: Path, name: str) -> None:
    server.swap = name
    with pytest.raises(WeightsError, match=name):
        pull()
    assert list(hub.pulled_models()) == []
    assert not (tmp_path / f"{FOLDER}.partial" / name).exists()


def test_damage_is_seen_and_mended(server: FakeHub) -> None:
    folder = pull()
    (folder / WEIGHTS).write_bytes(server.files[WEIGHTS][:-100])
    assert any("bytes instead of" in problem for problem in hub.damage(folder))
    assert any("cut short" in problem for problem in hub.damage(folder))
    assert hub.damage(pull()) == []


def test_an_unknown_model_is_one_line(server: FakeHub) -> None:
    with pytest.raises(ModelError, match="the hub has no public model someone/else"):
        hub.pull("someone/else", print)


def test_no_hub_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("UNIXCXR_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match="cannot be reached"):
        hub.pull(REPO, print)


@pytest.mark.parametrize("name", ["nothing", "a/b/c", ""])
def test_a_name_that_is_no_hub_id(name: str) -> None:
    with pytest.raises(ModelError, match="owner/name"):
        hub.pull(name, print)


def test_a_full_disk_is_known_before_the_first_byte(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("Usage", (), {"free": 10})
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: full)
    with pytest.raises(OutputError, match="free some space"):
        pull()
    assert server.ranges == []


def test_a_repository_cannot_write_outside_its_folder(server: FakeHub, tmp_path: Path) -> None:
    server.files["../evil.json"] = b"{}"
    with pytest.raises(ModelError, match="outside its folder"):
        pull()
    assert not (tmp_path / "evil.json").exists()


@pytest.mark.parametrize(
    "content", [b"", b"abc", struct.pack("<Q", 1 << 40), struct.pack("<Q", 4) + b"[1,2"], ids=repr
)
def test_rubbish_is_not_a_whole_safetensors_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / WEIGHTS).write_bytes(content)
    assert hub.damage(tmp_path) == [f"{WEIGHTS} is cut short"]
