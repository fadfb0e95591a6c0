"""What reports and prompts say: exactly the findings, in words that the rule labeler reads back."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unixcxr.errors import ConfigError
from unixcxr.labels import label_report
from unixcxr.phantom import ComposedReport, PhantomFinding, draw_findings, write_phantom_report
from unixcxr.phantom.finding import SIDES, SIZES, ZONED

KINDS = ("phantom", "adult", "paediatric")


def compose(seed: int, **options: Any) -> tuple[tuple[PhantomFinding, ...], ComposedReport]:
    rng = np.random.default_rng(seed)
    findings = draw_findings(rng)
    return findings, write_phantom_report(findings, rng, **options)


def every_finding() -> list[PhantomFinding]:
    return [
        PhantomFinding(kind, side, zone, size)  # type: ignore[arg-type]
        for kind in SIDES
        for side in SIDES[kind]
        for zone in (("upper", "mid", "lower") if kind in ZONED else (None,))
        for size in SIZES[kind]
    ]


def stated(text: str) -> dict[str, str]:
    return {label: state for label, state in label_report(text).items() if state is not None}


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS), view=st.sampled_from([None, "PA", "AP"]))
def test_the_labeler_reads_exactly_the_labels_of_the_report(seed: int, kind: str, view: str | None) -> None:
    _, report = compose(seed, kind=kind, view=view)
    assert stated(report.text) == report.labels


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
def test_impression_and_prompt_name_the_same_abnormalities_as_the_report(seed: int, kind: str) -> None:
    _, report = compose(seed, kind=kind)
    positive = {label for label, state in report.labels.items() if state == "positive"}
    for text in (report.prompt, report.impression_text):
        assert {label for label, state in stated(text).items() if state == "positive"} == positive


@pytest.mark.parametrize("finding", every_finding(), ids=str)
def test_every_wording_names_side_zone_and_size_rightly(finding: PhantomFinding) -> None:
    for seed in range(25):
        report = write_phantom_report([finding], np.random.default_rng(seed))
        for text in (report.findings_text, report.prompt, report.impression_text):
            words = set(re.findall(r"[a-z]+", text.lower()))
            if finding.side == "bilateral":
                assert words & {"bilateral", "both"}
                assert not words & {"left", "right"}
            else:
                assert words & {"left", "right"} == set(finding.sides)
            assert words & {"upper", "mid", "lower"} <= {
                finding.zone,
                "upper" if finding.kind == "pacemaker" else "",
            }
            assert finding.zone is None or finding.zone in words
        own = {
            "small": {"small", "mild", "mildly", "nodule"},
            "moderate": {"moderate", "moderately"},
            "large": {"large", "marked", "markedly", "severe", "severely", "mass"},
        }
        said = set(
            re.findall(r"[a-z]+", re.sub(r"[^.]*\b(no|not)\b[^.]*\.", "", report.findings_text.lower()))
        )
        for size, names in own.items():
            if size == finding.size:
                assert said & names
            elif not (size == "large" and finding.kind == "edema"):  # "most marked around the hila"
                assert not said & names


def test_no_report_denies_what_it_states() -> None:
    nouns = {
        "effusion": "effusion",
        "pneumothorax": "pneumothorax",
        "consolidation": "consolidation",
        "edema": "edema",
    }
    for seed in range(1500):
        findings, report = compose(seed)
        denied = " ".join(re.findall(r"\b(?:No|no)\b[^.]*", report.text))
        for finding in findings:
            if finding.kind in nouns:
                assert nouns[finding.kind] not in denied
            if finding.kind == "nodule":
                assert not re.search("nodule|mass", denied)
            if finding.kind in (
                "effusion",
                "consolidation",
                "pneumothorax",
                "edema",
                "nodule",
                "atelectasis",
            ):
                assert "ungs are clear" not in report.text
            if finding.kind == "cardiomegaly":
                assert not re.search(r"normal|not enlarged|No cardiomegaly", report.text)


def test_wording_varies_and_stays_short() -> None:
    reports = [compose(seed)[1] for seed in range(1000)]
    assert len({report.text for report in reports}) > 950
    assert len({report.prompt for report in reports}) > 600
    lengths = [len(report.text.split()) for report in reports]
    assert max(lengths) <= 75
    assert 25 <= np.median(lengths) <= 55
    normals = {write_phantom_report([], np.random.default_rng(seed)).text for seed in range(200)}
    assert len(normals) > 190


def test_no_finding_is_stated_for_normals_and_for_devices_alone() -> None:
    line = PhantomFinding("central_line", "left")
    for findings, expected in (
        ([], True),
        ([line], True),
        ([line, PhantomFinding("edema", size="small")], False),
    ):
        labels = write_phantom_report(findings, np.random.default_rng(0)).labels
        assert (labels.get("No Finding") == "positive") == expected


@pytest.mark.parametrize("kind", KINDS)
def test_report_and_prompt_name_what_was_pictured(kind: str) -> None:
    rng = np.random.default_rng(3)
    composed = [write_phantom_report([], rng, kind=kind) for _ in range(200)]  # type: ignore[arg-type]
    for part in ("findings_text", "prompt"):
        named = sum(kind in getattr(report, part).lower() for report in composed) / len(composed)
        assert named == 1.0 if kind != "adult" else 0.5 < named < 0.8
        foreign = set(KINDS) - {kind}
        assert not any(word in getattr(report, part).lower() for report in composed for word in foreign)


def test_a_view_is_stated_only_when_given() -> None:
    for seed in range(100):
        for view in (None, "PA", "AP"):
            text = compose(seed, view=view)[1].text
            assert set(re.findall(r"\b(?:PA|AP)\b", text)) <= {view}


def test_an_unknown_kind_of_report_is_refused() -> None:
    with pytest.raises(ConfigError, match="veterinary"):
        write_phantom_report([], np.random.default_rng(0), kind="veterinary")  # type: ignore[arg-type]


def test_the_sections_are_written_out_in_the_report() -> None:
    report = write_phantom_report([PhantomFinding("edema", size="large")], np.random.default_rng(1))
    assert report.text == f"FINDINGS: {report.findings_text}\nIMPRESSION: {report.impression_text}"
