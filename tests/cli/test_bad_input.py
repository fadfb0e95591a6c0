"""The table of bad input: each is one line that names what was found, the exit code, and nothing half-written."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.model import tiny

from unixcxr.phantom import sample_phantom


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model with random weights in the native layout."""
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny", tiny.RELEASABLE)


@pytest.fixture
def place(tmp_path: Path, model: Path) -> Path:
    """Return a folder with one good picture and every bad thing that the table names."""
    Image.fromarray(sample_phantom(5, size_px=256).image).save(tmp_path / "good.png")
    (tmp_path / "words.png").write_text("these are words")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    (tmp_path / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0")
    Image.fromarray(np.full((64, 64), np.nan, dtype=np.float32)).save(tmp_path / "nan.tiff")
    (tmp_path / "bomb.png").write_bytes(png_header(60000, 60000))
    (tmp_path / "wrong-model").mkdir()
    (tmp_path / "wrong-model" / "config.json").write_text('{"architectures": ["Bert"]}')
    shutil.copytree(model, tmp_path / "half-model")
    weights = tmp_path / "half-model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    shutil.copytree(model, tmp_path / "model")
    return tmp_path


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


TABLE = {
    "missing file": ("report missing.png", 1, "missing.png"),
    "not an image": ("report words.png", 1, "words.png"),
    "empty file": ("report empty.png", 1, "empty.png"),
    "truncated PNG": ("report cut.png", 1, "cut.png"),
    "truncated DICOM": ("report cut.dcm", 1, "cut.dcm"),
    "decompression bomb": ("report bomb.png", 1, "bomb.png"),
    "NaN pixels": ("report nan.tiff", 1, "nan.tiff"),
    "pattern without a match": ("report none*.png", 1, "matches no file"),
    "bad picture for the demo": ("demo --image empty.png", 1, "empty.png"),
    "empty prompt to draw": ("draw EMPTY", 1, "prompt is empty"),
    "empty prompt to report": ("report good.png --prompt EMPTY", 2, "prompt is empty"),
    "prompt longer than the context": ("draw LONG", 1, "the context holds"),
    "prompts file missing": ("draw --prompts none.txt", 1, "none.txt"),
    "no such model": ("report good.png --model nowhere", 2, "nowhere"),
    "a file as a model": ("report good.png --model good.png", 2, "good.png"),
    "wrong model directory": ("report good.png --model wrong-model", 2, "wrong-model"),
    "half-downloaded weights": ("draw Normal. --model half-model", 2, "half-model"),
    "unknown device": ("draw Normal. --device abacus", 2, "abacus"),
    "unknown dtype": ("draw Normal. --dtype float3", 2, "float3"),
    "size that no latent grid has": ("draw Normal. --size-px 9", 2, "size_px"),
    "guidance below 1": ("draw Normal. --guidance-scale 0.5", 2, "guidance"),
    "unknown option": ("draw Normal. --colour", 2, "--colour"),
    "unknown command": ("drow Normal.", 2, "drow"),
    "missing argument": ("report", 2, "IMAGE"),
    "no number": ("draw Normal. --seed soon", 2, "--seed"),
    "a file where a folder must be": ("draw Normal. --out good.png/a.png", 1, "good.png"),
    "a folder where a file must be": ("draw Normal. --out folder.png", 1, "folder.png"),
    "a device as the output": ("report good.png --out /dev/full", 1, "device"),
    "convert onto something": ("convert model half-model --to released", 1, "half-model"),
    "convert to what it is": ("convert model new", 2, "native layout already"),
    "convert to an unknown layout": ("convert model new --to onnx", 2, "onnx"),
    "pull of no name": ("pull nothing", 2, "owner/name"),
}
MODEL_COMMANDS = ("report", "draw", "demo")


@pytest.mark.parametrize("case", TABLE)
def test_bad_input(unixcxr, place: Path, case: str) -> None:
    line, code, named = TABLE[case]
    words = {"EMPTY": " ", "LONG": "effusion " * 3000}
    arguments = [words.get(word, word) for word in line.split()]
    if arguments[0] in MODEL_COMMANDS and "--model" not in arguments:
        arguments += ["--model", "model"]
    (place / "folder.png").mkdir()
    before = snapshot(place)
    ran = unixcxr(*arguments)
    assert ran.code == code, ran.err
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("error: ")
    assert named in ran.err
    assert len(ran.err) < 400
    assert snapshot(place) == before


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*")}


def test_the_good_picture_is_good(unixcxr, place: Path) -> None:
    """The table fails for its own reasons: the same commands work on good input."""
    assert unixcxr("report", "good.png", "--model", "model").code == 0
    assert unixcxr("draw", "Normal.", "--model", "model", "--out", "a.png").code == 0
    assert unixcxr("convert", "model", "copy", "--to", "released").code == 0


def subprocess_run(place: Path, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    program = "from unixcxr.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=place,
        text=True,
        stderr=subprocess.PIPE,
        timeout=120,
        **options,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(place: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ran = subprocess_run(place, "models", "--json", stdout=full)
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [
        "error: cannot write standard output: no space left on device; free some space or write elsewhere"
    ]


def test_a_reader_that_leaves_early_is_no_error(place: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess_run(place, "models", "--json", stdout=writer)
    os.close(writer)
    assert ran.stderr == ""


def test_a_write_that_fails_halfway_leaves_nothing(unixcxr, place: Path, monkeypatch) -> None:
    def write_bytes(self, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    before = snapshot(place)
    ran = unixcxr("draw", "Normal.", "--model", "model", "--out", "a.png")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert "No space left on device; free some space" in ran.err
    assert snapshot(place) == before


def test_ctrl_c_is_one_line_and_130(unixcxr, place: Path, monkeypatch) -> None:
    from unixcxr.cli import engines

    def load(*arguments: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engines, "load", load)
    ran = unixcxr("draw", "Normal.")
    assert ran.code == 130
    assert len(ran.err.splitlines()) <= 1
