"""A report in the forms that hospital systems take: FHIR DiagnosticReport (R4) and DICOM Basic Text SR.

Both say that a program wrote it, that nobody has verified it, and that it is not for diagnosis. Neither names a
patient: whoever files them does that. This module needs no torch.
"""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import unixcxr

NOTICE = "Written by UniX CXR, research software. Not verified, not for diagnosis."

_LOINC_IMAGING = ("18748-4", "Diagnostic imaging study")
_LANGUAGE = ("121049", "DCM", "Language of Content Item and Descendants")
_HL7 = "http://terminology.hl7.org/CodeSystem"
_INTERPRETATION = {"positive": "POS", "negative": "NEG", "uncertain": "IND"}


class ExportedFinding(NamedTuple):
    """What one sentence says of one label."""

    label: str
    state: str
    sentence: str
    confidence: float


def report_to_fhir(
    text: str, findings: Sequence[ExportedFinding], model: str, now: datetime
) -> dict[str, Any]:
    """Return a preliminary DiagnosticReport with an Observation for each finding (hl7.org/fhir/R4).

    `now` must know its time zone. The test tag keeps it out of what systems count as care.
    """
    contained = [_observation(f"finding{k}", finding) for k, finding in enumerate(findings, 1)]
    code, display = _LOINC_IMAGING
    report: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "meta": {"tag": [_coding(f"{_HL7}/v3-ActReason", "HTEST", "test health data")]},
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{html.escape(text)}</p><p>{NOTICE}</p></div>',
        },
        "status": "preliminary",
        "category": [{"coding": [_coding(f"{_HL7}/v2-0074", "RAD", "Radiology")]}],
        "code": {"coding": [_coding("http://loinc.org", code, display)], "text": "Chest radiograph report"},
        "issued": now.isoformat(timespec="seconds"),
        "performer": [{"display": f"UniX CXR {unixcxr.__version__}, model {model}"}],
        "conclusion": f"{text}\n\n{NOTICE}",
    }
    if contained:
        report["contained"] = contained
        report["result"] = [{"reference": f"#{observation['id']}"} for observation in contained]
    return report


def report_to_dicom_sr(text: str, findings: Sequence[ExportedFinding], model: str, now: datetime) -> bytes:
    """Return a Basic Text SR (PS3.3 A.35.1) of an unverified report: its text, then a line for each finding."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = BasicTextSRStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    document = FileDataset(io.BytesIO(), {}, file_meta=meta, preamble=b"\0" * 128)
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    lines = [
        f"{finding.label}: {finding.state} (model confidence {finding.confidence:.2f}, not calibrated)"
        for finding in findings
    ]
    attributes: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": BasicTextSRStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyDate": date,
        "ContentDate": date,
        "StudyTime": time,
        "ContentTime": time,
        "AccessionNumber": "",
        "Modality": "SR",
        "Manufacturer": "UniX CXR",
        "SoftwareVersions": f"unixcxr {unixcxr.__version__}",
        "ReferringPhysicianName": "",
        "ReferencedPerformedProcedureStepSequence": [],
        "PatientName": "",
        "PatientID": "",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "StudyID": "",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "ValueType": "CONTAINER",
        "ConceptNameCodeSequence": [_code("18748-4", "LN", "Diagnostic Imaging Report")],
        "ContinuityOfContent": "SEPARATE",
        "PerformedProcedureCodeSequence": [],
        "CompletionFlag": "PARTIAL",
        "VerificationFlag": "UNVERIFIED",
        "ContentSequence": [
            _coded("HAS CONCEPT MOD", _code(*_LANGUAGE), _code("en", "RFC5646", "English")),
            _coded("HAS OBS CONTEXT", _code("121005", "DCM", "Observer Type"), _code("121007", "DCM", "Device")),
            _text("HAS OBS CONTEXT", _code("121013", "DCM", "Device Observer Name"), f"UniX CXR, model {model}"),
            _section(_code("121070", "DCM", "Findings"), _code("121071", "DCM", "Finding"), [text, *lines]),
            _section(_code("121111", "DCM", "Summary"), _code("121106", "DCM", "Comment"), [NOTICE]),
        ],
    }  # fmt: skip
    for keyword, value in attributes.items():
        setattr(document, keyword, value)
    file = io.BytesIO()
    document.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _observation(name: str, finding: ExportedFinding) -> dict[str, Any]:
    code = _INTERPRETATION[finding.state]
    about = f"{finding.sentence} (model confidence {finding.confidence:.2f}, not calibrated)"
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "preliminary",
        "code": {"text": finding.label},
        "valueString": finding.state,
        "interpretation": [{"coding": [_coding(f"{_HL7}/v3-ObservationInterpretation", code)]}],
        "note": [{"text": about}],
    }


def _coding(system: str, code: str, display: str | None = None) -> dict[str, str]:
    return {"system": system, "code": code, **({"display": display} if display else {})}


def _code(value: str, scheme: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _item(relation: str, kind: str, name: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = relation, kind, [name]
    return item


def _coded(relation: str, name: Any, code: Any) -> Any:
    item = _item(relation, "CODE", name)
    item.ConceptCodeSequence = [code]
    return item


def _text(relation: str, name: Any, value: str) -> Any:
    item = _item(relation, "TEXT", name)
    item.TextValue = value
    return item


def _section(title: Any, name: Any, texts: Sequence[str]) -> Any:
    section = _item("CONTAINS", "CONTAINER", title)
    section.ContinuityOfContent = "SEPARATE"
    section.ContentSequence = [_text("CONTAINS", name, text) for text in texts]
    return section
