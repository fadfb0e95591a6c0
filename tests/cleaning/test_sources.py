"""Every layout, read from a small imitation: which images are taken, which are left and why, what goes with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import get_args

import pytest
from pydicom.sr.codedict import codes

from cleaning import trees
from unixcxr.cleaning.sources import SOURCES, Found, detect_source, read_source
from unixcxr.cleaning.sources.labelled import padchest_text
from unixcxr.cleaning.tables import RowStore, decode_text, read_rows
from unixcxr.cleaning.views import choose_view
from unixcxr.config.cleaning import SourceConfig, SourceKind
from unixcxr.errors import ConfigError, InputError, RecordError


def read(path: Path, **settings: object) -> list[Found]:
    return list(read_source(SourceConfig(path=str(path), **settings))[1])  # type: ignore[arg-type]


def by_id(found: list[Found]) -> dict[str, Found]:
    assert len({item.study.id for item in found}) == len(found)
    return {item.study.id: item for item in found}


def reasons(found: Found) -> list[tuple[str, str]]:
    return [(Path(image.image_path).name, image.reason) for image in found.images]


@pytest.mark.parametrize("kind", trees.BUILDERS)
def test_every_layout_is_recognised_also_from_above(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "physionet.org" / "files" / "x"
    trees.BUILDERS[kind](root)
    assert detect_source(root).kind == kind
    if kind not in ("table", "dicom"):
        assert detect_source(tmp_path).kind == kind


@pytest.mark.parametrize("kind", trees.BUILDERS)
def test_every_image_has_a_decision_and_reading_is_repeatable(kind: str, tmp_path: Path) -> None:
    trees.BUILDERS[kind](tmp_path)
    first, second = read(tmp_path), read(tmp_path)
    assert first == second
    for found in first:
        assert found.study.image_paths == tuple(image.image_path for image in found.images if image.taken)
        assert all(image.reason for image in found.images)
        assert found.study.source == kind
        assert found.study.patient_id


@pytest.mark.parametrize("version", ["2.0.0", "2.1.0"])
@pytest.mark.parametrize("gz", [True, False])
def test_mimic_cxr_jpg(version: str, gz: bool, tmp_path: Path) -> None:
    found = by_id(read(trees.mimic_jpg(tmp_path, version, gz)))
    assert list(found) == ["s50414267", "s53189527", "s51967845", "s58621812"]
    two_views = found["s50414267"]
    assert reasons(two_views) == [
        ("02aa804e-bde0afdd-112c0b34-7bc16630-4e384014.jpg", "frontal view"),
        ("174413ec-4ec4c1f7-34ea26b7-c5f994f8-79ef1962.jpg", "lateral view"),
    ]
    assert two_views.study.patient_id == "p10000032"
    assert two_views.study.report == trees.REPORT
    assert [item.split for item in found.values()] == ["train", "train", "validate", "test"]
    assert two_views.labels == {
        "Pleural Effusion": "positive",
        "Pneumothorax": "negative",
        "Edema": "uncertain",
    }
    assert reasons(found["s51967845"])[0][1] == "unknown view, content decides"


def test_mimic_missing_files_are_named(tmp_path: Path) -> None:
    root = trees.mimic_jpg(tmp_path)
    subject, study, image, *_ = trees.MIMIC[2]
    (root / trees.mimic_path(subject, study, f"{image}.jpg")).unlink()
    (root / f"{trees.mimic_path(*trees.MIMIC[4][:2])}.txt").unlink()
    found = by_id(read(root))
    assert reasons(found["s53189527"]) == [(f"{image}.jpg", "missing image")]
    assert found["s58621812"].report_problem == "missing report"
    assert found["s50414267"].report_problem == ""


def test_mimic_reports_may_lie_elsewhere(tmp_path: Path) -> None:
    root = trees.mimic_jpg(tmp_path / "jpg")
    for path in list((root / "files").rglob("*.txt")):
        target = tmp_path / "mimic-cxr-reports" / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    assert {item.report_problem for item in read(root)} == {"missing report"}
    for folder in ("mimic-cxr-reports", "mimic-cxr-reports/files"):
        assert {item.study.report for item in read(root, reports=str(tmp_path / folder))} == {trees.REPORT}


@pytest.mark.parametrize("version", ["2.0.0", "2.1.0"])
def test_mimic_cxr_dicom_by_its_headers(version: str, tmp_path: Path) -> None:
    found = by_id(read(trees.mimic_dicom(tmp_path, version)))
    assert [reason for _, reason in reasons(found["s50414267"])] == ["frontal view", "lateral view"]
    assert found["s50578979"].images == ()  # the list names a study that has a report and no image
    assert found["s53189527"].split is None  # the split table belongs to MIMIC-CXR-JPG


def test_mimic_cxr_dicom_by_the_tables_of_the_jpg_release(tmp_path: Path) -> None:
    root = trees.mimic_dicom(tmp_path / "dicom")
    jpg = trees.mimic_jpg(tmp_path / "jpg")
    for name in ("metadata", "split"):
        (jpg / f"mimic-cxr-2.0.0-{name}.csv.gz").rename(root / f"mimic-cxr-2.0.0-{name}.csv.gz")
    found = by_id(read(root))
    assert detect_source(root).kind == "mimic-cxr"
    assert found["s58621812"].split == "test"
    assert found["s58621812"].study.image_paths[0].endswith(".dcm")


def test_mimic_without_any_table_walks_the_tree(tmp_path: Path) -> None:
    root = trees.mimic_dicom(tmp_path)
    for path in root.glob("*.csv.gz"):
        path.unlink()
    assert sorted(by_id(read(root))) == ["s50414267", "s51967845", "s53189527", "s58621812"]


def test_a_damaged_dicom_is_left_with_its_reason(tmp_path: Path) -> None:
    root = trees.mimic_dicom(tmp_path)
    subject, study, image, *_ = trees.MIMIC[2]
    trees.text(root / trees.mimic_path(subject, study, f"{image}.dcm"), b"no picture")
    ((_, reason),) = reasons(by_id(read(root))["s53189527"])
    assert reason == "unreadable image"


def test_llava_rad_prefers_the_gpt4_text(tmp_path: Path) -> None:
    found = read(trees.llava_rad(tmp_path))
    assert len(found) == 3  # AP and PA only, the doubled entry once
    first = found[0]
    assert (
        first.study.report
        == "FINDINGS: Small right pleural effusion (gpt4).\n\nIMPRESSION: Small right pleural effusion."
    )
    assert first.labels == {"Pleural Effusion": "positive", "Pneumothorax": "negative"}
    assert [item.split for item in found] == ["train", "train", "test"]
    assert all(item.study.image_paths for item in found)


def test_chexgenbench_with_its_images_elsewhere(tmp_path: Path) -> None:
    trees.mimic_jpg(tmp_path / "jpg")
    root = trees.chexgenbench(tmp_path / "bench")
    assert {reason for item in read(root) for _, reason in reasons(item)} == {"missing image"}
    found = read(root, images=str(tmp_path / "jpg"))
    assert [(item.study.patient_id, item.split) for item in found] == [
        ("p10000032", "train"),
        ("p10000032", "train"),
        ("p19999987", "test"),
    ]
    assert found[0].study.report == "FINDINGS: Small right pleural effusion. No pneumothorax."
    assert found[0].labels == {"Pleural Effusion": "positive", "Pneumothorax": "negative"}


def test_openi_with_and_without_projections(tmp_path: Path) -> None:
    found = by_id(read(trees.openi(tmp_path / "with")))
    assert list(found) == ["CXR1", "CXR2", "CXR10", "CXR11"]
    assert [reason for _, reason in reasons(found["CXR1"])] == ["frontal view", "lateral view"]
    assert found["CXR1"].study.report.startswith(
        "INDICATION: Positive TB test\n\nCOMPARISON: None.\n\nFINDINGS: The lungs"
    )
    assert found["CXR2"].report_problem == "empty report"
    assert found["CXR11"].report_problem.startswith("unreadable report")
    without = by_id(read(trees.openi(tmp_path / "without", with_projections=False)))
    assert {reason for _, reason in reasons(without["CXR1"])} == {"unknown view, content decides"}
    dropped = by_id(read(tmp_path / "without", unknown_view="drop"))
    assert {reason for _, reason in reasons(dropped["CXR1"])} == {"unknown view"}


def test_iu_by_kaggle(tmp_path: Path) -> None:
    found = by_id(read(trees.iu_kaggle(tmp_path)))
    assert [reason for _, reason in reasons(found["CXR1"])] == ["lateral view", "frontal view"]
    assert found["CXR4"].report_problem == "empty report"


def test_r2gen(tmp_path: Path) -> None:
    found = by_id(read(trees.r2gen(tmp_path)))
    assert {name: item.split for name, item in found.items()} == {
        "CXR2384_IM-0942": "train",
        "CXR2926_IM-1328": "validate",
        "CXR33_IM-1": "test",
    }
    assert found["CXR33_IM-1"].study.patient_id == "CXR33"


def test_chexpert_has_labels_and_no_text(tmp_path: Path) -> None:
    found = by_id(read(trees.chexpert(tmp_path / "CheXpert-v1.0-small")))
    item = found["patient00001_study1"]
    assert [reason for _, reason in reasons(item)] == ["frontal view", "lateral view"]
    assert not item.has_text
    assert item.report_problem == ""
    assert item.labels == {"Edema": "uncertain", "Pleural Effusion": "positive", "Pneumothorax": "negative"}
    assert found["patient64541_study1"].split == "validate"


def test_chexpert_plus(tmp_path: Path) -> None:
    (item,) = read(trees.chexpert_plus(tmp_path))
    assert item.study.id == "patient42142_study5"
    assert [reason for _, reason in reasons(item)] == ["frontal view", "lateral view"]
    assert item.study.report.startswith("NARRATIVE:")
    assert item.split == "train"


def test_padchest_text_by_labels_or_as_it_is(tmp_path: Path) -> None:
    (item,) = read(trees.padchest(tmp_path))
    assert [reason for _, reason in reasons(item)] == ["frontal view", "lateral view", "frontal view"]
    assert item.study.report == "FINDINGS: Right pleural effusion. Cardiomegaly."
    assert item.notes == ("text made from labels",)
    (spanish,) = read(tmp_path, text="report")
    assert spanish.study.report == "derram pleural derech ."
    assert spanish.notes == ()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (
            "[['pulmonary fibrosis', 'loc basal', 'loc left'], ['normal']]",
            "Basal left pulmonary fibrosis. Normal chest radiograph.",
        ),
        ("['nodule', 'loc right', 'cardiomegaly']", "Right nodule. Cardiomegaly."),
        ("[' cardiomegaly ', 'cardiomegaly']", "Cardiomegaly."),
    ],
)
def test_padchest_sentences(cell: str, expected: str) -> None:
    assert padchest_text(cell) == f"FINDINGS: {expected}"


@pytest.mark.parametrize("cell", ["", "[]", "['unclosed", "__import__('os')"])
def test_padchest_cells_without_a_sentence(cell: str) -> None:
    assert padchest_text(cell) == ""


def test_nih14(tmp_path: Path) -> None:
    found = by_id(read(trees.nih14(tmp_path)))
    assert {name: item.split for name, item in found.items()} == {
        "00000001_000": "train",
        "00000001_001": "train",
        "00000003_000": "test",
        "00000005_000": None,
    }
    assert found["00000001_000"].labels == {"Cardiomegaly": "positive", "Pleural Effusion": "positive"}
    assert found["00000003_000"].labels == {}  # hernia has no counterpart
    assert found["00000001_000"].study.patient_id == "00000001"
    assert all(item.study.image_paths for item in found.values())


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    found = read(trees.table_folder(tmp_path))
    assert [item.study.patient_id for item in found] == ["p0", "p1", "p2", "p3"]
    assert all(item.images[0].taken for item in found)


def test_columns_are_mapped(tmp_path: Path) -> None:
    trees.picture(tmp_path / "x.png")
    trees.table(tmp_path / "t.csv", [{"Bild": "x.png", "Befund": "Clear lungs.", "Fall": "7"}])
    (item,) = read(tmp_path / "t.csv", columns={"image": "Bild", "report": "Befund", "study": "Fall"})
    assert (item.study.id, item.study.report) == ("7", "Clear lungs.")


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    trees.table(tmp_path / "t.csv", [{"image": "x.png", "reprot_text": "Clear lungs."}])
    with pytest.raises(RecordError, match=r"no column 'report_text'; the nearest is 'reprot_text'"):
        read(tmp_path / "t.csv", columns={"report": "report_text"})
    with pytest.raises(ConfigError, match="unknown name 'raport'"):
        read(tmp_path / "t.csv", columns={"raport": "image"})


@pytest.mark.parametrize(
    "kind", ["mimic-cxr-jpg", "chexpert-plus", "padchest", "nih14", "iu-kaggle", "chexgenbench"]
)
def test_a_renamed_column_of_a_named_data_set_names_the_nearest(kind: str, tmp_path: Path) -> None:
    trees.BUILDERS[kind](tmp_path)
    column = {
        "mimic-cxr-jpg": "study_id",
        "chexpert-plus": "ap_pa",
        "padchest": "Projection",
        "nih14": "View Position",
        "iu-kaggle": "findings",
        "chexgenbench": "annotated_prompt",
    }[kind]
    changed = 0
    for path in tmp_path.rglob("*.csv*"):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt") as file:
            content = file.read()
        head, _, rest = content.partition("\n")
        names = [f"{name.strip()}_x" if name.strip() == column else name for name in head.split(",")]
        changed += names != head.split(",")
        with opened(path, "wt") as file:
            file.write(",".join(names) + "\n" + rest)
    assert changed
    with pytest.raises(RecordError, match=f"no column '{column}'; the nearest is '{column}_x'"):
        read(tmp_path, kind=kind)


def test_json_lines_without_images_are_text_only(tmp_path: Path) -> None:
    rows = [{"id": f"CXR{n}", "findings": "Clear lungs.", "impression": None, "images": []} for n in range(3)]
    with gzip.open(tmp_path / "reports.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    found = read(tmp_path)
    assert [item.study.id for item in found] == ["CXR0", "CXR1", "CXR2"]
    assert {reason for item in found for _, reason in reasons(item)} == {"text only"}


def test_a_report_cell_may_name_a_file(tmp_path: Path) -> None:
    trees.picture(tmp_path / "x.png")
    trees.text(tmp_path / "x.txt", "Effusion à droite.".encode("latin-1"))
    trees.table(
        tmp_path / "t.csv", [{"image": "x.png", "report": "x.txt"}, {"image": "y.png", "report": "y.txt"}]
    )
    found = by_id(read(tmp_path / "t.csv"))
    assert found["x"].study.report == "Effusion à droite."
    assert found["x"].notes == ("report decoded as Windows-1252",)
    assert found["y"].report_problem == "missing report"


def test_a_folder_of_dicom_files(tmp_path: Path) -> None:
    found = by_id(read(trees.dicom_folder(tmp_path)))
    assert [reason for _, reason in reasons(found["1.2.840.1"])] == ["frontal view", "lateral view"]
    assert found["1.2.840.1"].study.patient_id == "ANON1"
    assert found["1.2.840.2"].images[0].view == "AP"
    assert reasons(found["1.2.840.3"])[0][1] == "lateral view"
    assert reasons(found["A004"])[0][1] == "no picture"
    assert not found["1.2.840.1"].has_text


def test_a_folder_of_dicom_files_with_reports(tmp_path: Path) -> None:
    trees.dicom_folder(tmp_path)
    trees.text(tmp_path / "1.2.840.1.txt", "Clear lungs.")
    found = by_id(read(tmp_path))
    assert found["1.2.840.1"].study.report == "Clear lungs."
    assert found["1.2.840.2"].report_problem == "missing report"


def test_burned_in_annotation_is_noted(tmp_path: Path) -> None:
    trees.dicom(
        tmp_path / "a.dcm", PatientID="A", StudyInstanceUID="1.2", ViewPosition="PA", BurnedInAnnotation="YES"
    )
    (item,) = read(tmp_path)
    assert item.notes == ("DICOM header admits burned-in text",)


def test_what_is_not_there_or_not_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        detect_source(tmp_path / "none")
    with pytest.raises(InputError, match="does not look like a known data set"):
        detect_source(tmp_path)
    with pytest.raises(InputError, match="does not look like the layout 'nih14'"):
        detect_source(trees.table_folder(tmp_path), "nih14")
    with pytest.raises(ConfigError, match="did you mean 'padchest'"):
        detect_source(tmp_path, "pad-chest")


@pytest.mark.parametrize(
    ("tags", "name", "is_frontal"),
    [
        (("PA",), "PA", True),
        (("pa",), "PA", True),
        (("AP",), "AP", True),
        (("LL",), "lateral", False),
        (("AP LLD",), "decubitus", False),
        (("AP AXIAL",), "lordotic", False),
        (("LAO",), "oblique", False),
        (("", "postero-anterior"), "PA", True),
        (("", "left lateral"), "lateral", False),
        (("", "R-10206"), "AP", True),
        (("", "", "CHEST PA"), "PA", True),
        (("", "", "W Chest Lat."), "lateral", False),
        (("", "", "PORTABLE CHEST"), "AP", True),
        (("", "", "CHEST (PA AND LAT)"), None, None),
        (("", "", "", "CHEST (PORTABLE AP)"), "AP", True),
        (("PA", "left lateral"), None, None),
        (("PA", "", "Lateral"), "PA", True),
        (("", "", "PATIENT LATEX"), None, None),
        (("",), None, None),
    ],
)
def test_views(tags: tuple[str, ...], name: str | None, is_frontal: bool | None) -> None:
    view = choose_view(*tags)
    assert (view.name, view.is_frontal) == (name, is_frontal)


def test_view_codes_agree_with_the_standards_own_table() -> None:
    view = codes.cid4010
    for concept, expected in (
        (view.PosteroAnterior, True),
        (view.AnteroPosterior, True),
        (view.LeftLateral, False),
    ):
        assert choose_view(view_code=concept.value).is_frontal is expected
        assert choose_view(view_code=concept.meaning).is_frontal is expected


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        ("naïve".encode(), "naïve", ""),
        ("naïve".encode("cp1252"), "naïve", "report decoded as Windows-1252"),
        ("naïve".encode("utf-16"), "naïve", ""),
        (b"\xef\xbb\xbfa\r\nb", "a\nb", ""),
    ],
)
def test_texts_in_other_encodings(data: bytes, text: str, note: str) -> None:
    assert decode_text(data) == (text, note, "")


def test_bytes_that_are_no_text() -> None:
    assert decode_text(bytes(range(256)) * 4).problem == "report is not text"


def test_tables_in_other_encodings(tmp_path: Path) -> None:
    path = trees.text(tmp_path / "t.csv", "a,b\nné,1\n".encode("cp1252"))
    assert list(read_rows(path)) == [{"a": "né", "b": "1"}]


def test_a_json_array_is_read_item_by_item(tmp_path: Path) -> None:
    rows = [{"n": str(n), "text": "x" * 3000} for n in range(1500)]  # several times the buffer
    path = trees.text(tmp_path / "t.json", json.dumps(rows, indent=2))
    assert list(read_rows(path)) == rows
    cut = trees.text(tmp_path / "cut.json", json.dumps(rows)[:-10])
    with pytest.raises(RecordError, match="cut short"):
        list(read_rows(cut))


def test_a_row_store_sorts_groups_and_keeps_the_order_of_rows() -> None:
    store = RowStore([("b", {"n": "1"}), ("a", {"n": "2"}), ("b", {"n": "3"})])
    assert list(store.groups()) == [("a", [{"n": "2"}]), ("b", [{"n": "1"}, {"n": "3"}])]
    assert store.first("c") == {}


def test_the_registry_is_what_the_config_knows() -> None:
    assert set(get_args(SourceKind)) == {"auto", *SOURCES}
