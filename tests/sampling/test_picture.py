"""Pictures become files that others can open, that say what they are, and that appear whole or not at all."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from unixcxr.atomic import atomic_path, require_writable, write_text
from unixcxr.errors import ConfigError, OutputError
from unixcxr.sampling.picture import SYNTHETIC, Picture, contact_sheet


@pytest.fixture
def picture() -> Picture:
    """Return a 6 x 5 ramp whose 16-bit values are known: intensity k / 29 at pixel k."""
    intensities = (np.arange(30, dtype=np.float32) / 29).reshape(6, 5)
    image = Image.fromarray(np.rint(intensities * 255).astype(np.uint8))
    return Picture(
        image, torch.zeros(4, 2), 17, {"num_steps": 9, "text": "Mr Smith has an effusion."}, intensities
    )


def test_png_of_8_bits_keeps_every_pixel_and_says_it_is_synthetic(picture: Picture, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        assert read.mode == "L"
        assert np.array_equal(np.asarray(read), np.asarray(picture.image))
        assert read.text["Title"] == SYNTHETIC
        assert read.text["Seed"] == "17"
        assert json.loads(read.text["Settings"]) == {"num_steps": 9}


def test_png_of_16_bits_is_finer_than_8(picture: Picture, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png", bits=16)
    with Image.open(tmp_path / "a.png") as read:
        assert read.mode == "I;16"
        values = np.asarray(read)
    assert values[0, 0] == 0
    assert values[5, 4] == 65535
    assert values[0, 1] == round(65535 / 29)


@pytest.mark.parametrize("bits", [8, 16])
def test_dicom_is_a_marked_secondary_capture(picture: Picture, tmp_path: Path, bits: int) -> None:
    picture.save(tmp_path / "a.dcm", bits=bits)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    assert read.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert read.SeriesDescription == SYNTHETIC
    assert len(SYNTHETIC) <= 64
    assert list(read.ImageType) == ["DERIVED", "SECONDARY"]
    assert (read.PatientName, read.BurnedInAnnotation, read.SyntheticData) == ("SYNTHETIC", "NO", "YES")
    assert (read.ContentQualification, read.ConversionType) == ("RESEARCH", "SYN")
    assert (read.Rows, read.Columns, read.BitsStored) == (6, 5, bits)
    assert np.array_equal(read.pixel_array, picture._pixels(bits))


def test_each_dicom_is_an_examination_of_its_own(picture: Picture, tmp_path: Path) -> None:
    first, second = (pydicom.dcmread(picture.save(tmp_path / f"{name}.dcm")) for name in "ab")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert first[keyword].value != second[keyword].value


@pytest.mark.parametrize("name", ["a.png", "a.dcm"])
def test_no_file_quotes_the_prompt(picture: Picture, tmp_path: Path, name: str) -> None:
    assert b"Smith" not in picture.save(tmp_path / name).read_bytes()


@pytest.mark.parametrize(("name", "bits"), [("a.jpg", 8), ("a", 8), ("a.png", 12)])
def test_other_formats_and_depths_are_refused(picture: Picture, tmp_path: Path, name: str, bits: int) -> None:
    with pytest.raises(ConfigError):
        picture.save(tmp_path / name, bits=bits)
    assert list(tmp_path.iterdir()) == []


def test_16_bits_need_intensities(picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="intensities"):
        Picture(picture.image, picture.latent, 0).save(tmp_path / "a.png", bits=16)


def test_contact_sheet_places_pictures_row_by_row() -> None:
    greys = [Picture(Image.new("L", (3, 2), value), torch.zeros(1, 1), value) for value in (10, 20, 30)]
    sheet = contact_sheet(greys, num_columns=2, gap_px=1)
    assert sheet.tolist() == [
        [10, 10, 10, 0, 20, 20, 20],
        [10, 10, 10, 0, 20, 20, 20],
        [0] * 7,
        [30, 30, 30, 0, 0, 0, 0],
        [30, 30, 30, 0, 0, 0, 0],
    ]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def write_half() -> None:
        with atomic_path(target) as partial:
            partial.write_text("half of the n")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="No space left") as caught:
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    assert "\n" not in str(caught.value)


def test_an_error_of_the_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_folders_made_for_a_file_go_with_it(tmp_path: Path, error: BaseException) -> None:
    def write_half() -> None:
        with atomic_path(tmp_path / "b" / "c" / "a.txt"):
            raise error

    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_asking_whether_a_place_is_writable_leaves_nothing(tmp_path: Path) -> None:
    require_writable(tmp_path / "b" / "a.txt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="name another folder"):
        require_writable(tmp_path / "file" / "a.txt")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name a file"):
        write_text(tmp_path, "x")


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "b" / "c" / "a.txt", "new")
    assert (tmp_path / "b" / "c" / "a.txt").read_text() == "new"
