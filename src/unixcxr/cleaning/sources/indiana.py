"""IU X-ray in its three forms: OpenI's XML reports, Kaggle's two tables, and R2Gen's annotation.json."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from unixcxr.cleaning.sources.found import Found, ImageFile, build, decide, sections, split_name
from unixcxr.cleaning.tables import RowStore, find_table, read_rows
from unixcxr.cleaning.views import View, choose_view
from unixcxr.config.cleaning import SourceConfig
from unixcxr.errors import RecordError

OPENI_LICENSE = "CC BY-NC-ND 4.0"
_NO_VIEW = View(None, None, "no view in the metadata")


class OpenISource:
    """NLMCXR_reports/ecgen-radiology/1.xml and NLMCXR_png/CXR1_1_IM-0001-3001.png.

    The XML names no view; Kaggle's indiana_projections.csv, where it lies beside, does. One report is one patient.
    """

    license = OPENI_LICENSE

    def root(self, path: Path) -> Path | None:
        for folder in (path, path / "NLMCXR_reports"):
            if any((folder / "ecgen-radiology").glob("[0-9]*.xml")):
                return path
        return path.parent if path.name == "ecgen-radiology" and any(path.glob("[0-9]*.xml")) else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        folder = next(
            f for f in (root / "NLMCXR_reports" / "ecgen-radiology", root / "ecgen-radiology") if f.is_dir()
        )
        table = find_table(root, "indiana_projections.csv")
        views = (
            RowStore(
                (f"CXR{_stem(row['filename'])}", row) for row in read_rows(table, ("filename", "projection"))
            )
            if table
            else RowStore()
        )
        images = _image_folder(settings, root, "NLMCXR_png", "images", "images_normalized", "NLMCXR_dcm")
        for path in sorted(folder.glob("[0-9]*.xml"), key=lambda file: (len(file.stem), file.stem)):
            yield self._study(path, images, views, settings)

    def _study(self, path: Path, images: Path, views: RowStore, settings: SourceConfig) -> Found:
        study = f"CXR{path.stem}"
        try:
            tree = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, UnicodeDecodeError) as error:
            return build("openi", study, study, (), report_problem=f"unreadable report: {error}")
        texts = {
            (part.get("Label") or "").lower(): "".join(part.itertext()) for part in tree.iter("AbstractText")
        }
        report = sections(
            indication=texts.get("indication", ""),
            comparison=texts.get("comparison", ""),
            findings=texts.get("findings", ""),
            impression=texts.get("impression", ""),
        )
        is_said = any(texts.get(part, "").strip() for part in ("findings", "impression"))
        names = [image.get("id") or "" for image in tree.iter("parentImage")]
        files = [ImageFile(_existing(images, name), _projection(views, name)) for name in names if name]
        problem = "" if is_said else "empty report"
        return build(
            "openi", study, study, decide(files, settings.unknown_view), report, report_problem=problem
        )


class IndianaTablesSource:
    """Kaggle's form: indiana_reports.csv, indiana_projections.csv and images/images_normalized/."""

    license = OPENI_LICENSE

    def root(self, path: Path) -> Path | None:
        return path if find_table(path, "indiana_reports.csv") else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        table = root / "indiana_projections.csv"
        views = RowStore((row["uid"], row) for row in read_rows(table, ("uid", "filename", "projection")))
        images = _image_folder(settings, root, "images/images_normalized", "images_normalized", "images")
        reports = read_rows(
            root / "indiana_reports.csv", ("uid", "indication", "comparison", "findings", "impression")
        )
        for row in reports:
            study = f"CXR{row['uid']}"
            report = sections(
                **{name: row[name] for name in ("indication", "comparison", "findings", "impression")}
            )
            problem = "" if row["findings"].strip() or row["impression"].strip() else "empty report"
            files = [
                ImageFile(images / view["filename"], choose_view(view["projection"]))
                for view in views.get(row["uid"])
            ]
            yield build(
                "iu-kaggle",
                study,
                study,
                decide(files, settings.unknown_view),
                report,
                report_problem=problem,
            )


class R2GenSource:
    """annotation.json with R2Gen's splits, for IU X-ray and for MIMIC-CXR.

    For IU X-ray the two images of a study are 0.png and 1.png. Which is frontal is not said.
    """

    license = ""

    def root(self, path: Path) -> Path | None:
        return path if (path / "annotation.json").is_file() else None

    def read(self, settings: SourceConfig, root: Path) -> Iterator[Found]:
        path = root / "annotation.json"
        try:
            splits = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise RecordError(f"{path}: cannot be read as JSON ({error}); get a fresh copy") from None
        if not isinstance(splits, dict) or not all(isinstance(rows, list) for rows in splits.values()):
            raise RecordError(f"{path}: expected an object of lists: train, val, test")
        images = _image_folder(settings, root, "images")
        for split, rows in splits.items():
            for row in rows:
                files = [ImageFile(images / name, _NO_VIEW) for name in row.get("image_path", ())]
                study = str(row.get("study_id") or row["id"])
                identity = str(row["id"]) if "study_id" not in row else f"s{study}_{row['id']}"
                patient = f"p{row['subject_id']}" if "subject_id" in row else _iu_patient(study)
                yield build(
                    "r2gen",
                    identity,
                    patient,
                    decide(files, settings.unknown_view),
                    str(row.get("report") or ""),
                    split=split_name(str(row.get("split") or split)),
                )


def _iu_patient(study: str) -> str:
    """Return "CXR2384" for the study "CXR2384_IM-0942": the report's number, as near to a patient as IU tells."""
    return study.partition("_")[0]


def _image_folder(settings: SourceConfig, root: Path, *names: str) -> Path:
    if settings.images:
        return Path(settings.images)
    return next((root / name for name in names if (root / name).is_dir()), root)


def _existing(folder: Path, name: str) -> Path:
    choices = [folder / f"{name}{suffix}" for suffix in (".png", ".jpg", ".dcm")]
    return next((path for path in choices if path.is_file()), choices[0])


def _stem(filename: str) -> str:
    return re.sub(r"\.dcm\.png$|\.png$", "", filename)


def _projection(views: RowStore, name: str) -> View:
    row = views.first(name)
    return choose_view(row["projection"]) if row else _NO_VIEW
