"""A report as FHIR and as DICOM SR: whole, marked, and read back by others' readers."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from xml.etree import ElementTree

import pydicom
import pytest

from unixcxr.sampling.export import NOTICE, ExportedFinding, report_to_dicom_sr, report_to_fhir

NOW = datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC)
TEXT = "Large right pleural effusion. Heart < 50 % & no edema, 3 µm."
FINDINGS = [
    ExportedFinding("Pleural Effusion", "positive", "Large right pleural effusion.", 0.8125),
    ExportedFinding("Edema", "negative", "no edema", 0.5),
    ExportedFinding("Pneumonia", "uncertain", "maybe", 0.25),
]


def test_fhir_refers_to_its_findings_and_says_what_it_is() -> None:
    report = report_to_fhir(TEXT, FINDINGS, "tiny", NOW)
    assert report["status"] == "preliminary"
    assert report["issued"] == "2026-11-25T01:02:03+00:00"
    assert report["conclusion"] == f"{TEXT}\n\n{NOTICE}"
    ids = [observation["id"] for observation in report["contained"]]
    assert [reference["reference"] for reference in report["result"]] == [f"#{name}" for name in ids]
    codes = [observation["interpretation"][0]["coding"][0]["code"] for observation in report["contained"]]
    assert codes == ["POS", "NEG", "IND"]
    assert "0.81, not calibrated" in report["contained"][0]["note"][0]["text"]
    words = " ".join(ElementTree.fromstring(report["text"]["div"]).itertext())
    assert TEXT in words
    assert NOTICE in words
    assert "contained" not in report_to_fhir(TEXT, [], "tiny", NOW)  # FHIR knows no empty lists


def test_fhir_is_valid_for_its_own_library() -> None:
    resources = pytest.importorskip("fhir.resources.R4B.diagnosticreport")
    report = resources.DiagnosticReport(**report_to_fhir(TEXT, FINDINGS, "tiny", NOW))
    assert len(report.contained) == 3


def test_dicom_sr_reads_back() -> None:
    content = report_to_dicom_sr(TEXT, FINDINGS, "tiny", NOW)
    document = pydicom.dcmread(io.BytesIO(content))
    assert document.SOPClassUID == pydicom.uid.BasicTextSRStorage
    assert (document.VerificationFlag, document.CompletionFlag) == ("UNVERIFIED", "PARTIAL")
    assert (document.PatientName, document.PatientID) == ("", "")
    sections = [item for item in document.ContentSequence if item.ValueType == "CONTAINER"]
    texts = [[item.TextValue for item in section.ContentSequence] for section in sections]
    assert texts[0][0] == TEXT
    assert texts[0][1] == "Pleural Effusion: positive (model confidence 0.81, not calibrated)"
    assert len(texts[0]) == 4
    assert texts[1] == [NOTICE]
    for item in document.iterall():
        if item.keyword == "RelationshipType":
            assert item.value in ("CONTAINS", "HAS OBS CONTEXT", "HAS CONCEPT MOD")


def test_dicom_sr_is_valid_for_highdicom() -> None:
    highdicom = pytest.importorskip("highdicom")
    document = pydicom.dcmread(io.BytesIO(report_to_dicom_sr(TEXT, FINDINGS, "tiny", NOW)))
    content = highdicom.sr.ContainerContentItem.from_dataset(document)
    assert content.name.value == "18748-4"
