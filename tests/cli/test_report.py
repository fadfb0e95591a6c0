"""`unixcxr report`: what it takes, where the answers go, and how it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from unixcxr.cli.inputs import find_images

TEXT = "Large right pleural effusion. No pneumothorax."


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_a_file_and_a_pattern_are_each_read_once(unixcxr, engine, films: Path) -> None:
    ran = unixcxr("report", films, films / "a.png", f"{films}/*.png", "--json")
    assert ran.code == 0
    assert [row["image"] for row in rows(ran.out)] == [str(films / "a.png"), str(films / "more" / "b.jpg")]
    assert rows(ran.out)[0]["report"] == TEXT


def test_json_rows_carry_findings_with_state_and_confidence(unixcxr, engine, films: Path) -> None:
    (row,) = rows(unixcxr("report", films / "a.png", "--json").out)
    states = {finding["label"]: finding["state"] for finding in row["findings"]}
    assert states["Pleural Effusion"] == "positive"
    assert states["Pneumothorax"] == "negative"
    assert row["findings"][0]["confidence"] == 1.0
    assert row["seconds"] >= 0


def test_one_bad_file_does_not_stop_the_rest(unixcxr, engine, films: Path) -> None:
    (films / "0.png").write_bytes(b"")
    ran = unixcxr("report", films, films / "missing.png", "--json")
    assert ran.code == 1
    assert sum("report" in row for row in rows(ran.out)) == 2
    assert {row["image"] for row in rows(ran.out) if "failure" in row} == {
        str(films / "0.png"),
        str(films / "missing.png"),
    }
    assert len(ran.errors) == 2
    assert all(row["image"] not in row["failure"] for row in rows(ran.out) if "failure" in row)
    assert "2 of 4 inputs failed" in ran.err


def test_a_picture_that_the_gate_refuses_needs_force(unixcxr, engine, films: Path) -> None:
    Image.new("L", (64, 64)).save(films / "black.png")
    refused = unixcxr("report", films / "black.png")
    assert (refused.code, refused.out) == (1, "")
    assert refused.errors == [
        f"error: {films / 'black.png'}: blank picture; use --force to read it all the same"
    ]
    forced = unixcxr("report", films / "black.png", "--force")
    assert forced.code == 0
    assert TEXT in forced.out
    assert "blank picture" in forced.err


def test_batches_have_the_size_asked_for(unixcxr, engine, films: Path) -> None:
    for index in range(5):
        Image.new("L", (32, 32), 9).save(films / f"{index}.png")
    assert unixcxr("report", films, "--batch-size", "3").code == 0
    assert engine.batches == [3, 3, 1]


def test_out_file_holds_every_report(unixcxr, engine, films: Path, tmp_path: Path) -> None:
    ran = unixcxr("report", films, "--out", "reports.txt")
    assert (ran.code, ran.out) == (0, "")
    assert (tmp_path / "reports.txt").read_text().count(TEXT) == 2


def test_out_folder_mirrors_the_images(unixcxr, engine, films: Path, tmp_path: Path) -> None:
    Image.new("L", (32, 32), 9).save(tmp_path / "a.png")
    assert unixcxr("report", films, tmp_path / "a.png", "--out", "out/").code == 0
    written = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.txt")}
    assert written == {Path("a.txt"), Path("a-2.txt"), Path("more/b.txt")}


def test_out_folder_with_json_keeps_failures_beside_reports(
    unixcxr, engine, films: Path, tmp_path: Path
) -> None:
    (films / "0.png").write_bytes(b"")
    assert unixcxr("report", films, "--json", "--out", "out/").code == 1
    assert "failure" in json.loads((tmp_path / "out" / "0.json").read_text())
    assert json.loads((tmp_path / "out" / "a.json").read_text())["report"] == TEXT


def test_options_reach_the_engine(unixcxr, engine, films: Path) -> None:
    arguments = ("--prompt", "What is it?", "--max-new-tokens", "9", "--temperature", "0.7", "--seed", "5")
    unixcxr("report", films / "a.png", *arguments)
    (call,) = engine.calls
    assert call["prompt"] == "What is it?"
    assert (call["max_new_tokens"], call["temperature"], call["seeds"]) == (9, 0.7, [5])


def test_a_seed_without_effect_is_refused(unixcxr, engine, films: Path) -> None:
    ran = unixcxr("report", films / "a.png", "--seed", "5")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "--temperature" in ran.err


def test_ctrl_c_keeps_the_reports_that_are_done(
    unixcxr, engine, films: Path, tmp_path: Path, monkeypatch
) -> None:
    write = engine.write_reports

    def stop_at_the_second(images, **options):
        if engine.batches:
            raise KeyboardInterrupt
        return write(images, **options)

    monkeypatch.setattr(engine, "write_reports", stop_at_the_second)
    ran = unixcxr("report", films, "--batch-size", "1", "--json", "--out", "reports.jsonl")
    assert ran.code == 130
    assert [row["image"] for row in rows((tmp_path / "reports.jsonl").read_text())] == [str(films / "a.png")]


def test_a_terminal_sees_one_report_as_it_is_written(unixcxr, engine, films: Path, monkeypatch) -> None:
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    ran = unixcxr("report", films / "a.png")
    assert ran.code == 0
    assert ran.out == f"{TEXT}\n\n[Pleural Effusion; no Pneumothorax]\n"
    assert engine.batches == []


def test_an_empty_folder_is_named(unixcxr, engine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = unixcxr("report", "empty")
    assert ran.code == 1
    assert ran.errors == [
        "error: empty: a folder without images; expected PNG, JPEG, TIFF or DICOM files in it"
    ]


@pytest.fixture
def bare_dicom(tmp_path: Path) -> Callable[[str], Path]:
    def write(name: str) -> Path:
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.generate_uid()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        dataset.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return write


def test_folders_are_searched_for_images_and_bare_dicom(tmp_path: Path, bare_dicom) -> None:
    Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(tmp_path / "x.PNG")
    bare_dicom("IM0001")
    (tmp_path / "README").write_text("words")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "table.csv").write_text("a,b")
    files, failures = find_images([str(tmp_path)])
    assert [file.path.name for file in files] == ["IM0001", "x.PNG"]
    assert failures == []


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").write_bytes(b"x")
    files, _ = find_images([str(tmp_path / "a[1].png")])
    assert [file.path.name for file in files] == ["a[1].png"]


def test_a_pattern_without_matches_is_named(tmp_path: Path) -> None:
    files, failures = find_images([str(tmp_path / "*.dcm")])
    assert files == []
    assert failures == [(str(tmp_path / "*.dcm"), "a pattern that matches no file")]
