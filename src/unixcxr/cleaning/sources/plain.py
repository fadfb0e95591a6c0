"""What a hospital or a user has without a name: a table beside a folder of images, or a folder of DICOM files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from unixcxr.cleaning.sources.dicom_header import Header, read_header
from unixcxr.cleaning.sources.found import Decision, Found, ImageFile, build, decide, sections, split_name
from unixcxr.cleaning.tables import (
    TABLE_SUFFIXES,
    Row,
    RowStore,
    Text,
    decode_text,
    read_report,
    read_rows,
    require_columns,
)
from unixcxr.cleaning.views import View, choose_view
from unixcxr.config.cleaning import SourceConfig
from unixcxr.errors import ConfigError, InputError

ALIASES = {
    "image": ("image", "image_path", "path", "file", "filename", "file_name", "image_file"),
    "report": ("report", "text", "raw_report", "report_text", "caption"),
    "findings": ("findings",),
    "impression": ("impression", "impressions", "conclusion"),
    "patient": ("patient_id", "patient", "subject_id", "patientid"),
    "study": ("study_id", "study", "accession", "id"),
    "view": ("view", "view_position", "viewposition", "projection"),
    "split": ("split", "subset"),
}
"""Our names for the columns of a table of one's own, and what each is looked for under, case aside."""


class TableSource:
    """A CSV, TSV, JSON or JSON lines table, one row for each image, and the images it names.

    `columns` maps our names to the table's; what it does not name is found by the usual names. A table without an
    image column gives text-only studies. Rows of the same study come together; a `report` cell may name a text file.
    """

    license = ""

    def root(self, path: Path) -> Path | None:
        if path.is_file():
            return path if _is_table(path) else None
        tables = [file for file in sorted(path.iterdir()) if _is_table(file)] if path.is_dir() else []
        index = [
            file
            for file in tables
            if file.name in ("index.jsonl", "metadata.csv", "metadata.jsonl", "manifest.jsonl")
        ]
        chosen = tables if len(tables) == 1 else index
        return chosen[0] if len(chosen) == 1 else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        unknown = sorted(set(settings.columns) - set(ALIASES))
        if unknown:
            raise ConfigError(f"source.columns: unknown name {unknown[0]!r}; known: {', '.join(ALIASES)}")
        first = next(read_rows(root, tuple(settings.columns.values())), None)
        if first is None:
            return
        columns = self._columns(root, list(first), settings)
        tree = Path(settings.images) if settings.images else root.parent
        number = 0

        def keyed() -> Iterator[tuple[str, Row]]:
            nonlocal number
            for row in read_rows(root):
                number += 1
                yield self._key(row, columns, number), row

        for key, rows in RowStore(keyed()).groups():
            patient, study = key.split("\x1f")
            yield self._study(patient, study, rows, columns, tree, settings)

    @staticmethod
    def _columns(path: Path, present: list[str], settings: SourceConfig) -> dict[str, str]:
        folded = {name.lower(): name for name in present}
        columns = {
            ours: next((folded[n] for n in names if n in folded), "") for ours, names in ALIASES.items()
        }
        columns |= settings.columns
        if not (columns["report"] or columns["findings"] or columns["impression"] or columns["image"]):
            require_columns(path, present, ("report",))
        return columns

    @staticmethod
    def _key(row: Row, columns: dict[str, str], number: int) -> str:
        def cell(name: str) -> str:
            return row.get(columns[name], "").strip() if columns[name] else ""

        study = cell("study") or (Path(cell("image")).stem if cell("image") else f"row{number}")
        return f"{cell('patient') or study}\x1f{study}"

    @staticmethod
    def _study(
        patient: str, study: str, rows: list[Row], columns: dict[str, str], tree: Path, settings: SourceConfig
    ) -> Found:
        def cell(row: Row, name: str) -> str:
            return row.get(columns[name], "") if columns[name] else ""

        if columns["image"]:
            files = [
                ImageFile(tree / cell(row, "image"), choose_view(cell(row, "view")))
                for row in rows
                if cell(row, "image").strip()
            ]
            decisions = decide(files, settings.unknown_view)
        else:
            decisions = (Decision("", True, "text only"),)
        row = rows[0]
        text = Text(cell(row, "report"))
        if text.text.strip().lower().endswith(".txt") and "\n" not in text.text.strip():
            folder = Path(settings.reports) if settings.reports else tree
            text = read_report(folder / text.text.strip())
        if not text.text.strip() and not text.problem:
            text = Text(sections(findings=cell(row, "findings"), impression=cell(row, "impression")))
        return build(
            "table",
            study,
            patient,
            decisions,
            text.text,
            split=split_name(cell(row, "split")),
            has_text=any(columns[name] for name in ("report", "findings", "impression")),
            report_problem=text.problem,
            notes=(text.note,) if text.note else (),
        )


class DicomFolderSource:
    """Any folder of DICOM files: studies by StudyInstanceUID, patients by PatientID, views by header.

    A report is a text file named like the study's UID or like the image, or report.txt in the image's folder;
    without any text file in the tree the images come without text. Other files are left, each with its reason.
    """

    license = ""

    def root(self, path: Path) -> Path | None:
        return path if path.is_dir() and next(_files(path, limit=2000, only_dicom=True), None) else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        has_text = bool(settings.reports) or next(root.rglob("*.txt"), None) is not None
        for _, rows in RowStore(self._rows(root)).groups():
            if rows[0]["problem"]:
                row = rows[0]
                decision = Decision(row["path"], False, row["problem"], row["detail"])
                yield build(
                    "dicom", _study_id(Path(row["path"])), row["patient"], (decision,), has_text=False
                )
                continue
            paths = [Path(row["path"]) for row in rows]
            views = [View(row["view"] or None, _flag(row["frontal"]), row["reason"]) for row in rows]
            report = self._report(settings, root, rows[0]["study"], paths) if has_text else Text("")
            notes = [report.note] if report.note else []
            if any(row["burned"] for row in rows):
                notes.append("DICOM header admits burned-in text")
            yield build(
                "dicom",
                rows[0]["study"] or _study_id(paths[0]),
                rows[0]["patient"],
                decide(map(ImageFile, paths, views), settings.unknown_view),
                report.text,
                has_text=has_text,
                report_problem=report.problem,
                notes=tuple(notes),
            )

    @staticmethod
    def _rows(root: Path) -> Iterator[tuple[str, Row]]:
        for path in _files(root):
            try:
                header = read_header(path)
            except InputError as error:
                yield f"~{path}", _bad(path, "unreadable image", str(error))
                continue
            if not header.has_picture:
                yield f"~{path}", _bad(path, "no picture", "a DICOM object without pixels")
                continue
            yield f"{header.patient_id}/{header.study_id or path}", _row(path, header)

    @staticmethod
    def _report(settings: SourceConfig, root: Path, study: str, paths: list[Path]) -> Text:
        folder = Path(settings.reports) if settings.reports else root
        choices = [
            folder / f"{study}.txt",
            *(path.with_suffix(".txt") for path in paths),
            paths[0].parent / "report.txt",
        ]
        found = next((path for path in choices if path.is_file()), None)
        return decode_text(found.read_bytes()) if found else Text("", "", "missing report")


def _row(path: Path, header: Header) -> Row:
    frontal = "" if header.view.is_frontal is None else str(int(header.view.is_frontal))
    return {
        "path": str(path),
        "problem": "",
        "detail": "",
        "patient": header.patient_id or header.study_id or path.stem,
        "study": header.study_id,
        "view": header.view.name or "",
        "frontal": frontal,
        "reason": header.view.reason,
        "burned": "1" if header.is_burned_in else "",
    }


def _bad(path: Path, problem: str, detail: str) -> Row:
    return {"path": str(path), "problem": problem, "detail": detail, "patient": path.stem, "study": ""}


def _flag(text: str) -> bool | None:
    return None if text == "" else text == "1"


def _study_id(path: Path) -> str:
    return path.stem


def _files(root: Path, limit: int | None = None, only_dicom: bool = False) -> Iterator[Path]:
    """Yield the files below a folder that may be DICOM, sorted; DICOMDIR, hidden and text files are passed by."""
    seen = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            seen += 1
            if limit is not None and seen > limit:
                return
            if (
                name.startswith(".")
                or name == "DICOMDIR"
                or path.suffix.lower() in (".txt", ".csv", ".json", ".xml")
            ):
                continue
            is_dicom = path.suffix.lower() in (".dcm", ".dicom") or _has_mark(path)
            if is_dicom or not only_dicom:
                yield path


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)
