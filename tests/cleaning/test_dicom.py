"""Reading pictures: tables of "file and setting, expected pixels", and every bad image refused in one line."""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from tests.bad_images import (
    BAD_IMAGES,
    RAMP,
    BadImage,
    dicom_bytes,
    make_dataset,
    noise,
    picture_bytes,
    png_header,
)

import unixcxr
from unixcxr.cleaning import greyscale
from unixcxr.cleaning.dicom import DicomFacts, read_dicom_facts, read_image, read_source
from unixcxr.errors import DicomError, ImageReadError, InputError

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
FOUR = np.array([[0, 100, 200, 300]], dtype=np.uint16)


def test_read_image_is_public() -> None:
    assert unixcxr.read_image is read_image


@pytest.mark.parametrize("bad", BAD_IMAGES, ids=lambda bad: bad.name)
def test_bad_images_are_refused_in_one_line_that_names_them(bad: BadImage, tmp_path: Path) -> None:
    path = bad.make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert bad.says in message
    assert "\n" not in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(picture_bytes("PNG"))
    path.chmod(0)
    with pytest.raises(ImageReadError, match="permission denied"):
        read_image(path)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    with pytest.raises(ImageReadError, match="not a regular file"):
        read_image(path)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_eight_bit_pictures_keep_their_levels(kind: str, tmp_path: Path) -> None:
    data = picture_bytes(kind, LEVELS)
    path = tmp_path / "picture.txt"  # the suffix does not matter
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data), Image.fromarray(LEVELS), LEVELS):
        image = read_image(source)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, LEVELS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 255]], np.uint16), [[0, 128, 255]]),
        (np.array([[0, 512, 1023]], np.uint16), [[0, 128, 255]]),
        (np.array([[0, 2048, 4095]], np.int32), [[0, 128, 255]]),
        (np.array([[0, 32896, 65535]], np.uint16), [[0, 128, 255]]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [[0, 128, 255]]),
        (np.array([[0.0, 127.6, 255.0]], np.float64), [[0, 128, 255]]),
        (np.array([[False, True]]), [[0, 255]]),
        (np.array([[[7], [9]]], np.uint8), [[7, 9]]),
        (np.array([[[255, 0, 0], [9, 9, 9]]], np.uint8), [[76, 9]]),
        (np.array([[[200, 200, 200, 255], [200, 200, 200, 0]]], np.uint8), [[200, 0]]),
    ],
)
def test_arrays_run_over_their_apparent_range(values: np.ndarray, expected: list) -> None:
    np.testing.assert_array_equal(read_image(values), expected)


def test_a_bright_marker_does_not_darken_a_deep_picture() -> None:
    values = np.full((100, 100), 4095, np.uint16)
    values[0, :5] = 65535
    assert read_image(values)[50, 50] == 255


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.array([[1.0, np.inf]]), "infinite"),
        (np.array([[-1, 3]]), "below 0"),
        (np.zeros((3, 40, 40), np.uint8), "expected \\(H, W\\)"),
        (np.zeros(9, np.uint8), "expected \\(H, W\\)"),
        (np.zeros((0, 9), np.uint8), "9 x 0 pixels"),
        (np.array([["a"]]), "type"),
    ],
)
def test_arrays_without_meaning_are_refused(values: np.ndarray, says: str) -> None:
    with pytest.raises(ImageReadError, match=says):
        read_image(values)


def test_sixteen_bit_files_round_trip(tmp_path: Path) -> None:
    deep = LEVELS.astype(np.uint16) * 257
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read_image(picture_bytes(kind, deep)), LEVELS)


@pytest.mark.parametrize(("photometric", "expected"), [(0, [255, 127, 0]), (1, [0, 128, 255])])
@pytest.mark.parametrize(("bits", "order"), [(8, "<"), (8, ">"), (16, "<")])
def test_tiff_white_is_zero_is_inverted(bits: int, order: str, photometric: int, expected: list) -> None:
    values = np.array([0, 128, 255]) * (257 if bits == 16 else 1)
    data = values.astype(f"{order}u{bits // 8}").tobytes()
    assert read_image(tiff(data, 3, 1, bits, photometric, order)).tolist() == [expected]


def tiff(data: bytes, width: int, height: int, bits: int, photometric: int, order: str) -> bytes:
    """Return a TIFF written by hand: header, one directory, one strip."""
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, height),
    ]
    tags.append((279, len(data)))
    padded = data + b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack(f"{order}HHIHxx", tag, 3, 1, value) for tag, value in tags)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(padded))
    return head + padded + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I", "F", "I;16"])
def test_every_pil_mode_gives_the_same_grey(mode: str) -> None:
    levels = np.where(LEVELS < 128, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(read_image(Image.fromarray(levels).convert(mode)), levels, atol=1)


def test_transparent_is_air() -> None:
    picture = Image.new("LA", (2, 1), (240, 0))
    picture.putpixel((1, 0), (240, 255))
    assert read_image(picture).tolist() == [[0, 240]]


def test_exif_orientation_is_followed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by a quarter to show
    file = io.BytesIO()
    Image.fromarray(LEVELS[:8]).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(read_image(file.getvalue()), np.rot90(LEVELS[:8], -1))


def test_colour_is_told_from_tint() -> None:
    grey = np.stack([LEVELS] * 3, axis=2)
    blue = np.clip(grey * np.array([0.92, 0.96, 1.0]), 0, 255).astype(np.uint8)
    hues = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    assert [read_source(colours).is_colour for colours in (LEVELS, grey, blue, hues)] == [
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        # width 200 about 150: from 50 to 250, with the standard's half steps in LINEAR
        ({"WindowCenter": 150, "WindowWidth": 200, "VOILUTFunction": "LINEAR_EXACT"}, [0, 64, 191, 255]),
        ({"WindowCenter": 150, "WindowWidth": 201, "VOILUTFunction": "LINEAR"}, [0, 64, 191, 255]),
        ({"WindowCenter": 150, "WindowWidth": 201}, [0, 64, 191, 255]),
        ({"WindowCenter": [150, 0], "WindowWidth": [201, 1]}, [0, 64, 191, 255]),
        ({"WindowCenter": 150, "WindowWidth": 200, "VOILUTFunction": "SIGMOID"}, [12, 69, 186, 243]),
        ({"WindowCenter": 100, "WindowWidth": 1}, [0, 255, 255, 255]),
        (
            {"WindowCenter": 300, "WindowWidth": 401, "RescaleSlope": 2, "RescaleIntercept": 0},
            [0, 64, 191, 255],
        ),
        (
            {"WindowCenter": 50, "WindowWidth": 201, "RescaleSlope": 1, "RescaleIntercept": -100},
            [0, 64, 191, 255],
        ),
        ({}, [0, 85, 170, 255]),
        ({"WindowCenter": "", "WindowWidth": ""}, [0, 85, 170, 255]),
        ({"PixelPaddingValue": 0}, [0, 0, 128, 255]),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 100}, [0, 0, 0, 255]),
        ({"PixelPaddingValue": 300}, [0, 128, 255, 0]),
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_windows_rescale_padding_and_inversion(
    photometric: str, settings_: dict, expected: list[int]
) -> None:
    dataset = make_dataset(FOUR, PhotometricInterpretation=photometric, **settings_)
    image = read_image(dicom_bytes(dataset))[0].astype(int)
    wanted = np.array(expected)
    if photometric == "MONOCHROME1":
        padding = {
            "PixelPaddingRangeLimit": [0, 100],
            "PixelPaddingValue": [settings_.get("PixelPaddingValue")],
        }
        outside = next((values for keyword, values in padding.items() if keyword in settings_), [])
        wanted = np.where(np.isin(FOUR[0], outside), 0, 255 - wanted)
    np.testing.assert_allclose(image, wanted, atol=1)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@settings(deadline=None)
@given(center=st.floats(-2000, 6000), width=st.floats(1, 8000))
def test_windows_agree_with_pydicom(function: str, center: float, width: float) -> None:
    values = np.arange(4096, dtype=np.uint16)
    dataset = make_dataset(values.reshape(64, 64), BitsStored=12, HighBit=11, VOILUTFunction=function)
    dataset.WindowCenter, dataset.WindowWidth = center, width
    theirs = apply_windowing(values, dataset) / 4095
    ours = greyscale.WINDOWS[function](
        values.astype(float), float(dataset.WindowCenter), float(dataset.WindowWidth)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_forbidden_narrow_linear_window_is_exact() -> None:
    values = np.array([0.1, 0.25, 0.4])
    np.testing.assert_allclose(greyscale.window_linear(values, 0.25, 0.3), [0, 0.5, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("photometric", "shape", "is_inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "INVERSE", True),
    ],
)
def test_inversion_happens_once(photometric: str, shape: str | None, is_inverted: bool) -> None:
    dataset = make_dataset(LEVELS, PhotometricInterpretation=photometric)
    if shape:
        dataset.PresentationLUTShape = shape
    np.testing.assert_array_equal(read_image(dataset), 255 - LEVELS if is_inverted else LEVELS)


def lut_item(first: int, data: list[int], bits: int) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(data), first, bits]
    item.add_new("LUTData", "OW", np.array(data, "<u2").tobytes())
    return item


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_voi_lut_is_used_before_a_window(bits: int) -> None:
    top = 2**bits - 1
    dataset = make_dataset(FOUR // 100, WindowCenter=0, WindowWidth=1)
    dataset.VOILUTSequence = [lut_item(1, [0, top // 2, top], bits)]
    assert read_image(dicom_bytes(dataset)).tolist() == [[0, 0, 127, 255]]


def test_a_lut_of_the_wrong_depth_still_reaches_white() -> None:
    dataset = make_dataset(FOUR // 100)
    dataset.VOILUTSequence = [lut_item(0, [0, 1365, 2730, 4095], 16)]
    assert read_image(dicom_bytes(dataset)).tolist() == [[0, 85, 170, 255]]


def test_modality_lut_comes_before_the_window() -> None:
    dataset = make_dataset(FOUR // 100, WindowCenter=50, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")
    dataset.ModalityLUTSequence = [lut_item(0, [100, 0, 50, 100], 12)]
    assert read_image(dicom_bytes(dataset)).tolist() == [[255, 0, 128, 255]]


def test_signed_pixels_and_padding_of_the_wrong_sign() -> None:
    pixels = np.array([[-2000, -1000, 0, 1000]], dtype=np.int16)
    dataset = make_dataset(pixels)
    dataset.add_new("PixelPaddingValue", "US", 2**16 - 2000)
    np.testing.assert_allclose(read_image(dicom_bytes(dataset)), [[0, 0, 128, 255]], atol=1)


def test_unused_high_bits_are_ignored() -> None:
    overlay = np.array([[0, 4095 | 0xF000, 2048 | 0x1000, 4095]], dtype=np.uint16)
    dataset = make_dataset(overlay, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    assert read_image(dicom_bytes(dataset)).tolist() == [[0, 255, 128, 255]]


def test_eight_bit_values_without_a_window_stay() -> None:
    narrow = LEVELS // 4 + 90
    np.testing.assert_array_equal(read_image(dicom_bytes(make_dataset(narrow))), narrow)


def test_all_padding_is_all_air() -> None:
    assert not read_image(make_dataset(np.full((4, 4), 7, np.uint16), PixelPaddingValue=7)).any()


def test_a_constant_picture_is_read() -> None:
    assert read_image(make_dataset(np.full((4, 4), 7, np.uint16))).shape == (4, 4)


def test_colour_dicom_becomes_luminance() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    source = read_source(dicom_bytes(make_dataset(pixels)))
    np.testing.assert_array_equal(source.image, np.asarray(Image.fromarray(pixels).convert("L")))
    assert source.is_colour


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_plain_encodings(syntax: str) -> None:
    dataset = make_dataset(LEVELS)
    dataset.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(read_image(dicom_bytes(dataset)), LEVELS)


COMPRESSED = {
    "JPEG baseline": (gdcm.TransferSyntax.JPEGBaselineProcess1, 8, 3),
    "JPEG lossless": (gdcm.TransferSyntax.JPEGLosslessProcess14, 16, 0),
    "JPEG lossless, first order": (gdcm.TransferSyntax.JPEGLosslessProcess14_1, 16, 0),
    "JPEG-LS": (gdcm.TransferSyntax.JPEGLSLossless, 16, 0),
    "JPEG 2000 lossless": (gdcm.TransferSyntax.JPEG2000Lossless, 16, 0),
    "JPEG 2000": (gdcm.TransferSyntax.JPEG2000, 16, 0),
    "RLE": (gdcm.TransferSyntax.RLELossless, 16, 0),
}


def compress(data: bytes, syntax: int, folder: Path) -> bytes:
    """Return a DICOM file in another transfer syntax, by gdcm."""
    plain, packed = folder / "plain.dcm", folder / "packed.dcm"
    plain.write_bytes(data)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return packed.read_bytes()


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_syntaxes_and_their_cut_streams(name: str, tmp_path: Path) -> None:
    syntax, bits, tolerance = COMPRESSED[name]
    y, x = np.mgrid[:64, :80]
    smooth = (2000 + 900 * np.sin(x / 9) + 700 * np.cos(y / 7)).astype(np.uint16)
    pixels = (smooth // 16).astype(np.uint8) if bits == 8 else smooth
    plain = dicom_bytes(
        make_dataset(pixels, WindowCenter=(128, 2048)[bits > 8], WindowWidth=(256, 4096)[bits > 8])
    )
    packed = compress(plain, syntax, tmp_path)
    assert pydicom.dcmread(io.BytesIO(packed)).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_allclose(read_image(packed).astype(int), read_image(plain), atol=tolerance)
    for share in (0.6, 0.98):
        with pytest.raises(InputError):
            read_image(packed[: int(len(packed) * share)])


def test_a_stream_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    packed = compress(
        dicom_bytes(make_dataset(np.zeros((640, 640), np.uint8))), COMPRESSED["JPEG-LS"][0], tmp_path
    )
    dataset = pydicom.dcmread(io.BytesIO(packed))
    dataset.Rows = dataset.Columns = 16
    with pytest.raises(DicomError, match="16 x 16 x 1 of 8 bits but its compressed picture 640 x 640"):
        read_image(dataset)


def test_a_deflated_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unixcxr.cleaning.dicom.MAX_UNPACKED_BYTES", 100_000)
    dataset = make_dataset(np.zeros((500, 500), np.uint8))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(DicomError, match="unpacks to more than"):
        read_image(dicom_bytes(dataset))


def test_pixel_limit_is_an_argument() -> None:
    with pytest.raises(ImageReadError, match="at most 255"):
        read_image(LEVELS, max_pixels=255)
    assert read_image(LEVELS, max_pixels=256).shape == (16, 16)


def test_a_header_without_a_preamble_is_found() -> None:
    dataset = make_dataset(LEVELS, PhotometricInterpretation="MONOCHROME1")
    file = io.BytesIO()
    del dataset.file_meta
    pydicom.dcmwrite(file, dataset, implicit_vr=True, little_endian=True)
    assert file.getvalue()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_image(file.getvalue()), 255 - LEVELS)


def test_files_that_come_with_pydicom() -> None:
    plain = read_image(get_testdata_file("MR_small.dcm"))
    for name in ("MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_jpeg_ls_lossless.dcm"):
        np.testing.assert_array_equal(read_image(get_testdata_file(name)), plain)
    with pytest.raises(DicomError, match="12-bit"):
        read_image(get_testdata_file("JPGExtended.dcm"))


@pytest.mark.parametrize(
    ("elements", "is_chest"),
    [
        ({}, None),
        ({"BodyPartExamined": "CHEST"}, True),
        ({"StudyDescription": "Rx torax PA"}, True),
        ({"BodyPartExamined": "HAND"}, False),
        ({"BodyPartExamined": "RIBS", "StudyDescription": "Thorax"}, True),
        ({"StudyDescription": "Wrist"}, None),
    ],
)
def test_facts_guess_the_chest(elements: dict[str, Any], is_chest: bool | None) -> None:
    facts = read_dicom_facts(make_dataset(RAMP, **elements))
    assert facts is not None
    assert facts.is_chest is is_chest


def test_facts_hold_no_identifier(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    person = {"PatientName": "Doe^Jane", "PatientID": "4711", "StudyDescription": "Chest of Jane Doe"}
    path.write_bytes(dicom_bytes(make_dataset(RAMP, Modality="DX", ViewPosition="PA", **person)))
    facts = read_dicom_facts(path)
    assert facts == DicomFacts("DX", "", "PA", "MONOCHROME2", 40, 50, True)
    assert read_source(path).facts == facts
    assert read_dicom_facts(picture_bytes("PNG")) is None
    assert read_dicom_facts(LEVELS) is None


def test_messages_repeat_no_header_text() -> None:
    dataset = make_dataset(None, PatientName="Doe^Jane")
    with pytest.raises(DicomError) as caught:
        read_image(dataset)
    assert "Doe" not in str(caught.value)


def seeds() -> list[bytes]:
    packed = make_dataset(noise())
    packed.compress(RLELossless)
    pictures = [picture_bytes(kind, noise()) for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "JPEG2000")]
    return [*pictures, dicom_bytes(make_dataset(RAMP, WindowCenter=9, WindowWidth=9)), dicom_bytes(packed)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(range(8)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_damaged_files_give_a_picture_or_an_input_error(which: int, flips: list, share: float) -> None:
    data = bytearray(SEEDS[which])
    for place, value in flips:
        data[int(place**3 * (len(data) - 1))] = value  # most flips fall into the header
    data = data[: int(len(data) * share)] if share < 0.3 else data
    try:
        image = read_image(bytes(data))
    except InputError as error:
        num_lines = len(str(error).splitlines())
    else:
        num_lines = int(image.dtype == np.uint8 and image.ndim == 2)
    assert num_lines == 1


SEEDS = seeds()


def test_png_text_chunk_bomb_is_refused() -> None:
    head = png_header(4, 4)
    body = b"k\0\0" + zlib.compress(bytes(80_000_000))
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    with pytest.raises(ImageReadError, match="damaged"):
        read_image(head[:33] + chunk + head[33:])
