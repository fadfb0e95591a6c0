"""`convert`, `pull`, `models`, `doctor`: what keeps the house in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from tests.model import tiny

from fake_hub import FakeHub
from unixcxr.cli import doctor as doctor_module
from unixcxr.cli.console import NOT_A_DEVICE
from unixcxr.errors import ModelError

REPO = "someone/tiny"


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny", tiny.RELEASABLE)


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_convert_there_and_back_keeps_every_byte_of_the_weights(
    unixcxr, native: Path, tmp_path: Path
) -> None:
    there = unixcxr("convert", native, "released", "--to", "released")
    assert (there.code, there.out.startswith("released: released layout, ")) == (0, True)
    assert list((tmp_path / "released" / "vae").glob("*.ckpt"))
    back = unixcxr("convert", "released", "back", "--to", "native", "--json")
    assert (back.code, rows(back.out)[0]["damage"]) == (0, [])
    for name in ("model.safetensors", "autoencoder.safetensors"):
        assert (tmp_path / "back" / name).read_bytes() == (native / name).read_bytes()


def test_pull_and_models_from_the_shell(tmp_path: Path) -> None:
    """The whole road with the hub's address in the environment, as a user behind a mirror has it."""
    weights = save({"a": np.ones(10, dtype=np.float32)})
    with FakeHub(REPO, {"config.json": b"{}", "model.safetensors": weights}) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "UNIXCXR_MODELS": str(tmp_path)}

        def call(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", "from unixcxr.cli import main; main()", *arguments]
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

        missing = call("pull", "someone/else")
        pulled = call("pull", REPO)
        listed = call("models", "--json")
    assert missing.returncode == 2
    assert missing.stderr == "error: the hub has no public model someone/else; check the name (owner/name)\n"
    assert (pulled.returncode, pulled.stdout) == (
        0,
        f"{tmp_path / 'someone--tiny'}\nuse it with: --model {REPO}\n",
    )
    assert "[2/2] model.safetensors" in pulled.stderr
    row = next(row for row in rows(listed.stdout) if row["model"] == REPO)
    assert (row["state"], row["licence"], row["folder"]) == (
        "ready",
        "cc0-1.0",
        str(tmp_path / "someone--tiny"),
    )


def test_models_lists_what_there_is_and_what_could_be_pulled(unixcxr) -> None:
    ran = unixcxr("models", "--json")
    assert ran.code == 0
    by_name = {row["model"]: row for row in rows(ran.out)}
    assert by_name["embedded"]["state"] == "ready"
    assert 0 < by_name["embedded"]["bytes"] <= 40e6
    assert by_name["ZrH42/UniX"]["state"] == "unixcxr pull unix"
    assert all(row["licence"] for row in by_name.values())
    table = unixcxr("models").out
    assert "embedded" in table
    assert "deepseek-ai/Janus-Pro-1B" in table


def test_doctor_exercises_each_device_with_the_real_model(unixcxr, device: str) -> None:
    ran = unixcxr("doctor", "--json")
    by_name = {row["name"]: row for row in rows(ran.out)}
    assert by_name[f"device {device}"]["state"] == "ok"
    assert "drew 1 step" in by_name[f"device {device}"]["found"]
    assert ran.code == (1 if any(row["state"] == "bad" for row in by_name.values()) else 0)


def states(unixcxr) -> dict[str, str]:
    return {row["name"]: row["state"] for row in rows(unixcxr("doctor", "--quick", "--json").out)}


def test_doctor_sees_the_folder_that_breaks_gdcm(unixcxr, tmp_path: Path) -> None:
    assert states(unixcxr)["DICOM"] == "ok"
    (tmp_path / "dl").mkdir()
    assert states(unixcxr)["DICOM"] == "bad"
    assert unixcxr("doctor", "--quick").code == 1


def test_doctor_sees_a_damaged_model(unixcxr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models" / "someone--tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(save({"a": np.ones(10, dtype=np.float32)})[:-1])
    monkeypatch.setenv("UNIXCXR_MODELS", str(tmp_path / "models"))
    assert states(unixcxr)[f"model {REPO}"] == "bad"


def test_doctor_sees_a_torchvision_that_does_not_import(unixcxr, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    info = tmp_path / "torchvision-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = doctor_module._torchvision()
    assert check.state == "bad"
    assert "operator nms does not exist" in check.found
    assert "pip uninstall torchvision" in check.advice


def test_doctor_names_a_device_that_fails(unixcxr, monkeypatch) -> None:
    def load(*arguments: str) -> None:
        raise ModelError("no such thing")

    monkeypatch.setattr(doctor_module.engines, "load", load)
    ran = unixcxr("doctor")
    assert ran.code == 1
    assert "no such thing" in ran.out
    assert NOT_A_DEVICE in ran.out
