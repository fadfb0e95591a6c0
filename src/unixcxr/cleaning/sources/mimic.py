"""MIMIC-CXR (DICOM) and MIMIC-CXR-JPG, 2.0.0 and 2.1.0, and the annotations made for them.

Layout by the PhysioNet pages of mimic-cxr, mimic-cxr-jpg and llava-rad-mimic-cxr-annotation and the CheXGenBench
repository: files/p10/p10000032/s50414267/<dicom id>.dcm|.jpg, the report in files/p10/p10000032/s50414267.txt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from unixcxr.cleaning.sources.dicom_header import read_header
from unixcxr.cleaning.sources.found import (
    Decision,
    Found,
    ImageFile,
    build,
    chexpert_labels,
    decide,
    sections,
    split_name,
)
from unixcxr.cleaning.tables import Row, RowStore, Text, find_table, read_report, read_rows
from unixcxr.cleaning.views import View, choose_view
from unixcxr.config.cleaning import SourceConfig
from unixcxr.errors import InputError, RecordError

LICENSE = "PhysioNet Credentialed Health Data License 1.5.0"
_IMAGE = re.compile(r"p\d\d/p(?P<patient>\d+)/s(?P<study>\d+)/(?P<image>[^/]+)\.(?:jpg|dcm|png)$")


class MimicSource:
    """The image tree with whichever tables lie beside it.

    Views come from the metadata table of MIMIC-CXR-JPG where it is there (it serves the DICOM tree as well),
    otherwise from the DICOM headers. The official split is read from its table.
    """

    license = LICENSE

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._name = "mimic-cxr-jpg" if suffix == ".jpg" else "mimic-cxr"

    def root(self, path: Path) -> Path | None:
        folder = path / "files"
        if not folder.is_dir() or not any(folder.glob("p1[0-9]")):
            return None
        marks = (
            ("mimic-cxr-2.*-metadata.csv*",)
            if self._suffix == ".jpg"
            else ("cxr-record-list.csv*", "cxr-study-list.csv*")
        )
        has_mark = find_table(path, *marks) is not None
        image = next(
            (file for file in folder.glob("p1[0-9]/p*/s*/*") if file.suffix in (".jpg", ".dcm")), None
        )
        if image is None:
            return path if has_mark else None
        return path if image.suffix == self._suffix else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        labels = _table(root, ("patient_study",), "mimic-cxr-2.*-chexpert.csv*", "mimic-cxr-2.*-negbio.csv*")
        splits = _table(root, ("dicom_id",), "mimic-cxr-2.*-split.csv*")
        tree = Path(settings.images) if settings.images else root
        for key, rows in self._studies(root):
            patient, study = key.split("/")
            folder = _folder(patient, study)
            images = [self._image(tree / folder / f"{row['dicom_id']}{self._suffix}", row) for row in rows]
            report = find_report(settings, root, folder)
            official = {splits.first(row["dicom_id"]).get("split", "") for row in rows} - {""}
            yield build(
                self._name,
                f"s{study}",
                f"p{patient}",
                _read_decisions(images, settings.unknown_view),
                report.text,
                split=split_name(official.pop()) if len(official) == 1 else None,
                labels=chexpert_labels(labels.first(key)),
                report_problem=report.problem,
                notes=(report.note,) if report.note else (),
            )

    def _studies(self, root: Path) -> Iterator[tuple[str, list[Row]]]:
        """Yield "patient/study" with one row for each image, from the best table there is, else from the tree.

        A study with a report and no image comes with no rows when the study list names it.
        """
        needed = ("dicom_id", "subject_id", "study_id")
        table = find_table(root, "mimic-cxr-2.*-metadata.csv*", "cxr-record-list.csv*")
        rows: Iterable[Row] = read_rows(table, needed) if table else _walk(root, self._suffix)
        store = RowStore((f"{row['subject_id']}/{row['study_id']}", row) for row in rows)
        studies = find_table(root, "cxr-study-list.csv*")
        if studies is None:
            yield from store.groups()
            return
        listed = RowStore(
            (f"{row['subject_id']}/{row['study_id']}", {}) for row in read_rows(studies, needed[1:])
        )
        with_images = store.groups()
        current = next(with_images, None)
        for key, _ in listed.groups():
            while current and current[0] < key:
                yield current
                current = next(with_images, None)
            if current and current[0] == key:
                yield current
                current = next(with_images, None)
            else:
                yield key, []
        while current:
            yield current
            current = next(with_images, None)

    def _image(self, path: Path, row: Row) -> ImageFile | Decision:
        """Return an image with its view by table or, for DICOM without one, by its header."""
        if "ViewPosition" in row:
            view = choose_view(
                row["ViewPosition"],
                row.get("ViewCodeSequence_CodeMeaning", ""),
                "",
                row.get("PerformedProcedureStepDescription", ""),
            )
            return ImageFile(path, view)
        if self._suffix == ".dcm" and path.is_file():
            try:
                return ImageFile(path, read_header(path).view)
            except InputError as error:
                return Decision(str(path), False, "unreadable image", str(error))
        return ImageFile(path, View(None, None, "no metadata table"))


class LlavaRadSource:
    """The three JSON files of LLaVA-Rad's annotations; the images are those of MIMIC-CXR-JPG.

    An image may appear twice, once by rules and once by GPT-4; the GPT-4 text is taken where there is one.
    """

    license = LICENSE

    def root(self, path: Path) -> Path | None:
        return path if self._tables(path) else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        tables = [(table, _split_in_name(table)) for table in self._tables(root)]
        rows = (
            (_image_key(table, row["image"]), {**row, "split": row.get("split") or split or ""})
            for table, split in tables
            for row in read_rows(table, ("id", "image", "conversations"))
        )
        for key, entries in RowStore(rows).groups():
            best = min(entries, key=lambda row: row.get("generate_method", "") != "gpt4")
            findings = next(
                (turn["value"] for turn in json.loads(best["conversations"]) if turn["from"] == "gpt"), ""
            )
            report = sections(findings=findings, impression=best.get("impression", ""))
            labels = json.loads(best["chexpert_labels"]) if best.get("chexpert_labels") else {}
            yield _annotated("llava-rad", settings, root, key, best, report, labels)

    @staticmethod
    def _tables(path: Path) -> list[Path]:
        return sorted(path.glob("chat_*MIMIC_CXR*.json")) if path.is_dir() else []


class CheXGenBenchSource:
    """LLAVARAD_ANNOTATIONS_TRAIN.csv and _TEST.csv: one prompt for each image of the benchmark's two splits."""

    license = LICENSE

    def root(self, path: Path) -> Path | None:
        for folder in (path, path / "MIMIC_Splits"):
            if find_table(folder, "LLAVARAD_ANNOTATIONS_*.csv*"):
                return folder
        return None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        tables = sorted(root.glob("LLAVARAD_ANNOTATIONS_*.csv*"))
        rows = (
            (_image_key(table, row["path"]), {**row, "split": _split_in_name(table) or ""})
            for table in tables
            for row in read_rows(table, ("path", "annotated_prompt"))
        )
        for key, entries in RowStore(rows).groups():
            row = entries[0]
            labels = _python_labels(row.get("chexpert_labels", ""))
            yield _annotated(
                "chexgenbench", settings, root, key, row, sections(findings=row["annotated_prompt"]), labels
            )


def find_report(settings: SourceConfig, root: Path, folder: Path) -> Text:
    """Read the report of a study folder "files/p10/p10000032/s50414267" wherever the report tree was unpacked."""
    places = (
        [Path(settings.reports)] if settings.reports else [root, root / "mimic-cxr-reports", root / "reports"]
    )
    for place in places:
        for base in (place, place.parent if settings.reports else place):
            path = base / folder.with_suffix(".txt")
            if path.exists():
                return read_report(path)
    return Text("", "", "missing report")


def _annotated(
    name: str, settings: SourceConfig, root: Path, key: str, row: Row, report: str, labels: dict[str, object]
) -> Found:
    """Make the study of one annotated image; `key` is "p10/p10000032/s50414267/<dicom id>"."""
    match = _IMAGE.search(f"{key}.jpg")
    assert match is not None
    tree = Path(settings.images) if settings.images else root
    places = [tree / "files" / f"{key}.jpg", tree / f"{key}.jpg", tree / "mimic" / f"{key}.jpg"]
    path = next((place for place in places if place.is_file()), places[0])
    view = (
        choose_view(row["view"])
        if row.get("view")
        else View("frontal", True, "the annotations hold frontal views")
    )
    return build(
        name,
        f"s{match['study']}_{match['image']}",
        f"p{match['patient']}",
        decide([ImageFile(path, view)], settings.unknown_view),
        report,
        split=split_name(row["split"]),
        labels=chexpert_labels(labels),
    )


def _image_key(table: Path, path: str) -> str:
    match = _IMAGE.search(path)
    if match is None:
        raise RecordError(
            f"{table}: image path {path!r}; expected .../p10/p10000032/s50414267/<dicom id>.jpg"
        )
    return path[match.start() : match.start("image")] + match["image"]


def _split_in_name(table: Path) -> str | None:
    words = re.split(r"[_.]", table.name.lower())
    return next((name for name in map(split_name, words) if name), None)


def _python_labels(text: str) -> dict[str, object]:
    """Read a dictionary that pandas wrote into a cell: JSON or Python's notation, nan included."""
    try:
        labels = json.loads(re.sub(r"\bnan\b", "NaN", text.replace("'", '"')))
    except ValueError:
        return {}
    return labels if isinstance(labels, dict) else {}


def _table(root: Path, key: tuple[str], *patterns: str) -> RowStore:
    """Load a table to look rows up in; an empty store when it is not there."""
    path = find_table(root, *patterns)
    if path is None:
        return RowStore()
    if key == ("patient_study",):
        return RowStore(
            (f"{r['subject_id']}/{r['study_id']}", r) for r in read_rows(path, ("subject_id", "study_id"))
        )
    return RowStore((row[key[0]], row) for row in read_rows(path, key))


def _walk(root: Path, suffix: str) -> Iterator[Row]:
    """Yield a row for each image of the tree."""
    for group in sorted((root / "files").glob("p[0-9][0-9]")):
        for path in sorted(group.glob(f"p*/s*/*{suffix}")):
            yield {"subject_id": path.parts[-3][1:], "study_id": path.parts[-2][1:], "dicom_id": path.stem}


def _folder(patient: str, study: str) -> Path:
    return Path("files") / f"p{patient[:2]}" / f"p{patient}" / f"s{study}"


def _read_decisions(images: Iterable[ImageFile | Decision], unknown_view: str) -> tuple[Decision, ...]:
    return tuple(
        image if isinstance(image, Decision) else decide([image], unknown_view)[0] for image in images
    )
