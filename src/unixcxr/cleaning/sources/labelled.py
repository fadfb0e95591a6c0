"""CheXpert, CheXpert Plus, PadChest and NIH ChestX-ray14: tables of images with labels, two of them with reports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from unixcxr.cleaning.sources.found import (
    Found,
    ImageFile,
    build,
    chexpert_labels,
    decide,
    sections,
    split_name,
)
from unixcxr.cleaning.tables import Row, RowStore, find_table, read_rows
from unixcxr.cleaning.views import View, choose_view
from unixcxr.config.cleaning import SourceConfig
from unixcxr.errors import RecordError
from unixcxr.records import LabelState

_PATIENT = re.compile(r"(?P<split>train|valid|test)/(?P<patient>patient\d+)/(?P<study>study\d+)/")


class CheXpertSource:
    """CheXpert-v1.0(-small): train.csv and valid.csv, labels and no reports."""

    license = "Stanford University Dataset Research Use Agreement"
    _COLUMNS = ("Path", "Frontal/Lateral", "AP/PA")

    def root(self, path: Path) -> Path | None:
        table = find_table(path, "train.csv", "valid.csv") if path.is_dir() else None
        if table is None:
            return None
        first = next(read_rows(table), {})
        return path if "Frontal/Lateral" in first else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        tables = [path for name in ("train.csv", "valid.csv", "test.csv") if (path := root / name).is_file()]
        rows = (
            (_study_key(table, row["Path"]), row)
            for table in tables
            for row in read_rows(table, self._COLUMNS)
        )
        for key, images in RowStore(rows).groups():
            split, patient, study = key.split("/")
            files = [
                ImageFile(
                    _below(settings, root, row["Path"]), _stanford_view(row["Frontal/Lateral"], row["AP/PA"])
                )
                for row in images
            ]
            yield build(
                "chexpert",
                f"{patient}_{study}",
                patient,
                decide(files, settings.unknown_view),
                split=split_name(split),
                labels=chexpert_labels(images[0]),
                has_text=False,
            )


class CheXpertPlusSource:
    """df_chexpert_plus_240401.csv: the reports of CheXpert, with PNG or DICOM images."""

    license = "Stanford University Dataset Research Use Agreement"
    _COLUMNS = ("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "report")

    def root(self, path: Path) -> Path | None:
        return path if find_table(path, "df_chexpert_plus_*.csv*") else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        table = find_table(root, "df_chexpert_plus_*.csv*")
        assert table is not None
        rows = ((_study_key(table, row["path_to_image"]), row) for row in read_rows(table, self._COLUMNS))
        for key, images in RowStore(rows).groups():
            split, _, study = key.split("/")
            row = images[0]
            files = [ImageFile(self._image(settings, root, image), _plus_view(image)) for image in images]
            report = row["report"]
            parts = sections(
                findings=row.get("section_findings", ""), impression=row.get("section_impression", "")
            )
            yield build(
                "chexpert-plus",
                f"{row['deid_patient_id']}_{study}",
                row["deid_patient_id"],
                decide(files, settings.unknown_view),
                report if report.strip() else parts,
                split=split_name(row.get("split", "") or split),
            )

    @staticmethod
    def _image(settings: SourceConfig, root: Path, row: Row) -> Path:
        """Return the image wherever the archives were unpacked: PNG/ or PNG/PNG/ or DICOM/ below the table."""
        tree = Path(settings.images) if settings.images else root
        png = Path(row["path_to_image"]).with_suffix(".png")
        dicom = Path(row.get("path_to_dcm") or png).with_suffix(".dcm")
        places = [
            tree / folder / name
            for folder in ("PNG", "PNG/PNG", "", "DICOM", "DICOM/DICOM")
            for name in (png, Path(row["path_to_image"]), dicom)
        ]
        return next((place for place in places if place.is_file()), places[0])


class PadChestSource:
    """PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv and the numbered image folders.

    The reports are Spanish and stemmed; by default the text is made from LabelsLocalizationsBySentence, which is
    English, and says so in a note. Projection holds the view.
    """

    license = "PadChest Dataset Research Use Agreement"
    _COLUMNS = ("ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "Report", "Labels")

    def root(self, path: Path) -> Path | None:
        return path if find_table(path, "PADCHEST_chest_x_ray_images_labels_*.csv*") else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        table = find_table(root, "PADCHEST_chest_x_ray_images_labels_*.csv*")
        assert table is not None
        tree = Path(settings.images) if settings.images else root
        rows = ((f"{row['PatientID']}/{row['StudyID']}", row) for row in read_rows(table, self._COLUMNS))
        for key, images in RowStore(rows).groups():
            patient, study = key.split("/", 1)
            files = [ImageFile(_padchest_image(tree, row), choose_view(row["Projection"])) for row in images]
            row = images[0]
            from_labels = settings.text == "labels"
            yield build(
                "padchest",
                study,
                patient,
                decide(files, settings.unknown_view),
                padchest_text(row.get("LabelsLocalizationsBySentence", "") or row["Labels"])
                if from_labels
                else row["Report"],
                notes=("text made from labels",) if from_labels else (),
            )


class Nih14Source:
    """ChestX-ray14: Data_Entry_2017(_v2020).csv, images_001/images/*.png, train_val_list.txt and test_list.txt."""

    license = "NIH Clinical Center, open access with attribution"
    _COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "View Position")

    def root(self, path: Path) -> Path | None:
        return path if find_table(path, "Data_Entry_2017*.csv*") else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        table = find_table(root, "Data_Entry_2017*.csv*")
        assert table is not None
        tree = Path(settings.images) if settings.images else root
        folders = [*sorted(tree.glob("images_[0-9]*/images")), tree / "images", tree]
        lists = (("train_val_list.txt", "train"), ("test_list.txt", "test"))
        splits = RowStore(
            (name, {"split": split})
            for list_name, split in lists
            if (root / list_name).is_file()
            for name in (root / list_name).read_text(encoding="utf-8").split()
        )
        rows = ((row["Image Index"], row) for row in read_rows(table, self._COLUMNS))
        for name, (row, *_) in RowStore(rows).groups():
            path = next(
                (place for folder in folders if (place := folder / name).is_file()), tree / "images" / name
            )
            yield build(
                "nih14",
                Path(name).stem,
                row["Patient ID"].zfill(8),
                decide([ImageFile(path, choose_view(row["View Position"]))], settings.unknown_view),
                split=split_name(splits.first(name).get("split", "")),
                labels=nih_labels(row["Finding Labels"]),
                has_text=False,
            )


NIH_LABELS = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Effusion": "Pleural Effusion",
    "Infiltration": "Lung Opacity",
    "Mass": "Lung Lesion",
    "Nodule": "Lung Lesion",
    "Pleural_Thickening": "Pleural Other",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
    "No Finding": "No Finding",
}
"""NIH names with a counterpart among the 14 CheXpert labels; Emphysema, Fibrosis and Hernia have none."""


def nih_labels(text: str) -> dict[str, LabelState]:
    """Map "Cardiomegaly|Effusion" to CheXpert's names; NIH tells presence only, so nothing is negative."""
    return {NIH_LABELS[name]: "positive" for name in text.split("|") if name in NIH_LABELS}


def padchest_text(cell: str) -> str:
    """Write one English sentence for each item of PadChest's label cell, places in front.

    The cell is Python notation: labels, each followed by its places, sentence by sentence, as in
    "[['pleural effusion', 'loc right'], ['normal']]". An entry that cannot be read gives an empty text.
    """
    try:
        items = ast.literal_eval(cell) if cell.strip() else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    labels: list[tuple[str, list[str]]] = []
    for word in _flat(items):
        if word.startswith("loc ") and labels:
            labels[-1][1].append(word.removeprefix("loc "))
        elif word and not word.startswith("loc "):
            labels.append((word, []))
    sentences = []
    for label, places in labels:
        sentence = "normal chest radiograph" if label == "normal" else " ".join([*places, label])
        sentences.append(f"{sentence[0].upper()}{sentence[1:]}.")
    return sections(findings=" ".join(dict.fromkeys(sentences)))


def _flat(items: object) -> Iterator[str]:
    if isinstance(items, str):
        yield items.strip()
    elif isinstance(items, list | tuple):
        for item in items:
            yield from _flat(item)


def _padchest_image(tree: Path, row: Row) -> Path:
    places = [
        tree / row["ImageDir"] / row["ImageID"],
        tree / "images" / row["ImageID"],
        tree / row["ImageID"],
    ]
    return next((place for place in places if place.is_file()), places[0])


def _study_key(table: Path, path: str) -> str:
    match = _PATIENT.search(path)
    if match is None:
        raise RecordError(
            f"{table}: image path {path!r}; expected train/patient00001/study1/view1_frontal.jpg"
        )
    return f"{match['split']}/{match['patient']}/{match['study']}"


def _below(settings: SourceConfig, root: Path, path: str) -> Path:
    """Return where a path such as CheXpert-v1.0-small/train/... lies: its first folder is the archive's own."""
    tree = Path(settings.images) if settings.images else root
    inner = path[path.index("/") + 1 :] if not path.startswith(("train/", "valid/", "test/")) else path
    places = [tree / inner, tree / path, tree.parent / path]
    return next((place for place in places if place.is_file()), places[0])


def _stanford_view(side: str, direction: str) -> View:
    if side.strip().lower() == "lateral":
        return View("lateral", False, "Frontal/Lateral says lateral")
    return choose_view(direction) if direction.strip() else choose_view(side)


def _plus_view(row: Row) -> View:
    return _stanford_view(row["frontal_lateral"], row["ap_pa"])
