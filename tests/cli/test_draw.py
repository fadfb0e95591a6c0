"""`unixcxr draw`: names, seeds, depths, sheets, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

EFFUSION = "Large right pleural effusion."


def test_a_picture_is_named_after_its_text_and_seed(unixcxr, engine, tmp_path: Path) -> None:
    ran = unixcxr("draw", EFFUSION, "--seed", "3")
    assert (ran.code, ran.out) == (0, "large-right-pleural-effusion-seed3.png\n")
    with Image.open(tmp_path / ran.out.strip()) as picture:
        assert np.asarray(picture).max() == 103


def test_picture_k_has_seed_plus_k_for_each_text(unixcxr, engine) -> None:
    ran = unixcxr("draw", EFFUSION, "Normal chest.", "-n", "2", "--seed", "7", "--json")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [(row["text"], row["seed"]) for row in rows] == [
        (EFFUSION, 7),
        (EFFUSION, 8),
        ("Normal chest.", 7),
        ("Normal chest.", 8),
    ]
    assert len({row["picture"] for row in rows}) == 4


def test_settings_reach_the_engine_only_when_given(unixcxr, engine) -> None:
    unixcxr("draw", EFFUSION)
    unixcxr("draw", EFFUSION, "--num-steps", "5", "--guidance-scale", "3.5", "--size-px", "64x48")
    assert engine.calls[0] == {"texts": [EFFUSION], "seeds": [0]}
    assert engine.calls[1] | {"texts": 0, "seeds": 0} == {
        "texts": 0,
        "seeds": 0,
        "num_steps": 5,
        "guidance_scale": 3.5,
        "size_px": (64, 48),
    }


def test_16_bits_and_dicom(unixcxr, engine, tmp_path: Path) -> None:
    assert unixcxr("draw", EFFUSION, "--bits", "16", "--out", "a.png").code == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert np.asarray(picture).max() == round(100 / 255 * 65535)
    assert unixcxr("draw", EFFUSION, "--out", "a.dcm").code == 0
    assert pydicom.dcmread(tmp_path / "a.dcm").PatientName == "SYNTHETIC"
    assert unixcxr("draw", EFFUSION, "--format", "dcm", "--out", "folder").code == 0
    assert [path.suffix for path in (tmp_path / "folder").iterdir()] == [".dcm"]


def test_several_pictures_in_one_named_file_are_numbered(unixcxr, engine, tmp_path: Path) -> None:
    ran = unixcxr("draw", EFFUSION, "-n", "3", "--out", "e.png")
    assert ran.out.split() == ["e-1.png", "e-2.png", "e-3.png"]
    assert sorted(path.name for path in tmp_path.glob("e*")) == ["e-1.png", "e-2.png", "e-3.png"]


def test_equal_texts_do_not_overwrite_each_other(unixcxr, engine) -> None:
    assert len(set(unixcxr("draw", EFFUSION, EFFUSION).out.split())) == 2


def test_a_grid_is_one_sheet_with_a_row_for_each_text(unixcxr, engine, tmp_path: Path) -> None:
    ran = unixcxr("draw", EFFUSION, "Normal chest.", "-n", "3", "--grid", "--out", "sheet.png")
    assert (ran.code, ran.out) == (0, "sheet.png\n")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 8 + 2 * 4, 2 * 8 + 4)
    assert [path.name for path in tmp_path.glob("*.png")] == ["sheet.png"]


def test_prompts_come_from_a_file_too(unixcxr, engine, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("Normal chest.\n\nLeft pneumothorax.\n")
    ran = unixcxr("draw", EFFUSION, "--prompts", "prompts.txt")
    assert ran.out.split() == [
        "large-right-pleural-effusion-seed0.png",
        "normal-chest-seed0.png",
        "left-pneumothorax-seed0.png",
    ]


def test_a_bad_prompt_does_not_stop_the_others(unixcxr, engine) -> None:
    ran = unixcxr("draw", " ", "Normal chest.")
    assert ran.code == 1
    assert ran.out == "normal-chest-seed0.png\n"
    assert ran.errors == ["error: prompt 1 of 2: the prompt is empty; say what to read or draw"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (EFFUSION, "--bits", "12"),
        (EFFUSION, "--out", "a.jpg"),
        (EFFUSION, "--grid", "--bits", "16"),
        (EFFUSION, "--grid", "--out", "a.dcm"),
        (EFFUSION, "--format", "dcm", "--out", "a.png"),
        (EFFUSION, "--size-px", "big"),
        (EFFUSION, "--size-px", "0"),
        (EFFUSION, "-n", "0"),
        (EFFUSION, "--num-steps", "many"),
    ],
    ids=" ".join,
)
def test_impossible_wishes_are_refused_before_drawing(unixcxr, engine, tmp_path: Path, arguments) -> None:
    ran = unixcxr("draw", *arguments)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert engine.calls == []
    assert list(tmp_path.iterdir()) == []
