"""What the header of a DICOM file says about the study and the view; pixels are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.dataset import Dataset

from unixcxr.cleaning.pictures import DAMAGE, reason
from unixcxr.cleaning.views import View, choose_view
from unixcxr.errors import DicomError

_TAGS = [
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SOPInstanceUID",
    "ViewPosition",
    "ViewCodeSequence",
    "SeriesDescription",
    "PerformedProcedureStepDescription",
    "StudyDescription",
    "BurnedInAnnotation",
    "Rows",
]


class Header(NamedTuple):
    """The identifiers of one DICOM file, its view, and whether it admits to burned-in text."""

    patient_id: str
    study_id: str
    image_id: str
    view: View
    is_burned_in: bool
    has_picture: bool


def read_header(path: Path) -> Header:
    """Read a DICOM header. Raises DicomError when the file is damaged or no DICOM file."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        code = _view_code(header)
        view = choose_view(
            str(header.get("ViewPosition") or ""),
            code,
            str(header.get("SeriesDescription") or ""),
            str(header.get("PerformedProcedureStepDescription") or header.get("StudyDescription") or ""),
        )
        return Header(
            str(header.get("PatientID") or ""),
            str(header.get("StudyInstanceUID") or ""),
            str(header.get("SOPInstanceUID") or ""),
            view,
            str(header.get("BurnedInAnnotation") or "").upper() == "YES",
            "Rows" in header,
        )
    except DAMAGE as error:
        raise DicomError(f"{path}: damaged DICOM header ({reason(error)}); get a fresh copy") from None


def _view_code(header: Dataset) -> str:
    """Return the code value of the first view code, or its meaning where the value is not one we know."""
    items = header.get("ViewCodeSequence") or []
    if not items:
        return ""
    value, meaning = str(items[0].get("CodeValue") or ""), str(items[0].get("CodeMeaning") or "")
    return value if choose_view(view_code=value).name else meaning
