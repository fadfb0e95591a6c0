"""The deterministic judge: hand-written pairs, and phantom reports that are damaged in one known way."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unixcxr.cleaning.judge import Verdict, judge_report, judge_texts, report_text
from unixcxr.phantom import PhantomFinding, draw_findings, write_phantom_report

RAW = """EXAMINATION: CHEST (PA AND LAT)

INDICATION: ___ year old man with pneumonia, rule out left pneumothorax.

COMPARISON: Chest radiograph ___.

FINDINGS: Compared to the prior study, the small right pleural effusion is unchanged. The endotracheal tube ends
3.5 cm above the carina. No pneumothorax. Old fracture of the left 6th rib.

IMPRESSION: Stable small right pleural effusion. Findings were discussed with Dr. ___ at 10:15 am."""
FINDINGS = (
    "Small right pleural effusion. The endotracheal tube ends 3.5 cm above the carina. No pneumothorax. "
    "Old fracture of the left 6th rib."
)
IMPRESSION = "Small right pleural effusion."


def test_a_faithful_report_is_accepted() -> None:
    assert judge_texts(RAW, FINDINGS, IMPRESSION) == Verdict(True)


def test_judge_report_reads_findings_and_impression() -> None:
    clean = SimpleNamespace(findings=FINDINGS, impression=IMPRESSION, changes=())
    assert judge_report(RAW, clean).accepted  # type: ignore[arg-type]


DAMAGES = [
    # what is replaced in the faithful report, by what, and the objection that must come
    ("No pneumothorax. ", "", "label lost"),
    ("No pneumothorax. ", "Small left pneumothorax. ", "label changed"),
    ("No pneumothorax. ", "Possible pneumothorax. ", "label changed"),
    ("No pneumothorax. ", "No pneumothorax. No edema. ", "label invented"),
    ("No pneumothorax. ", "No pneumothorax. Cardiomegaly. ", "label invented"),
    ("right pleural", "left pleural", "side changed"),
    ("right pleural", "bilateral pleural", "side invented"),
    ("mall right", "mall", "side lost"),
    ("Small right", "Large right", "size invented"),
    ("Small right", "Right", "size lost"),
    (" ends 3.5 cm", " ends 2.5 cm", "measurement invented"),
    (" ends 3.5 cm above", " ends above", "measurement lost"),
    ("endotracheal tube", "nasogastric tube", "device invented"),
    ("The endotracheal tube", "The tube", "device lost"),
    ("6th rib", "7th rib", "level invented"),
    ("left 6th rib", "left rib", "level lost"),
    ("Small right", "Unchanged small right", "prior reference left"),
    ("Small right", "Small right ___", "de-identification mark left"),
    ("No pneumothorax. ", "No pneumothorax. Discussed with Dr. Smith. ", "message left"),
    ("No pneumothorax. ", "No pneumothorax at 10:15. ", "date left"),
]


@pytest.mark.parametrize(("before", "after", "kind"), DAMAGES, ids=[f"{k}: {a}" for _, a, k in DAMAGES])
def test_one_damage_is_named(before: str, after: str, kind: str) -> None:
    findings, impression = FINDINGS.replace(before, after), IMPRESSION.replace(before, after)
    assert (findings, impression) != (FINDINGS, IMPRESSION)
    verdict = judge_texts(RAW, findings, impression)
    assert not verdict.accepted
    assert kind in verdict.kinds
    assert len(verdict.kinds) == len(verdict.complaints)


def test_nothing_left_is_not_a_report() -> None:
    assert judge_texts(RAW, " ", "").kinds == ("empty",)


ALLOWED = [
    # raw, clean findings: what may go without complaint
    ("INDICATION: Rule out left pneumothorax.\n\nFINDINGS: Clear lungs.", "Clear lungs."),
    ("FINDINGS: The right chest tube has been removed. No effusion.", "No effusion."),
    ("FINDINGS: Interval resolution of the left pneumothorax. No effusion.", "No effusion."),
    ("FINDINGS: Small effusion. Recommend CT to exclude malignancy.", "Small effusion."),
    ("FINDINGS: Single portable upright view. Small effusion.", "Small effusion."),
    ("FINDINGS: Mildly improved right effusion.", "Right effusion."),
    ("FINDINGS: Right effusion, previously large.", "Right effusion."),
    ("FINDINGS: 8 mm right nodule, previously 5 mm.", "8 mm right nodule."),
    ("FINDINGS: ETT in place.", "The endotracheal tube is in place."),
    ("FINDINGS: The heart is mildly enlarged.", "There is mild cardiomegaly."),
    ("FINDINGS: There is an effusion. It is small and on the left.", "Small left effusion."),
    (
        "FINDINGS: Calcified granuloma from prior granulomatous disease.",
        "Calcified granuloma from prior granulomatous disease.",
    ),
    ("FINDINGS: Left worse than right edema.", "Left worse than right edema."),
    ("FINDINGS: High-resolution CT showed a nodule.", "High-resolution CT showed a nodule."),
    ("FINDINGS: Increased interstitial markings.", "Increased interstitial markings."),
]


@pytest.mark.parametrize(("raw", "findings"), ALLOWED)
def test_what_may_go(raw: str, findings: str) -> None:
    assert judge_texts(raw, findings, "") == Verdict(True)


REFUSED = [
    # raw, clean findings, kind: near misses of what may go
    ("FINDINGS: The right chest tube is in place. No effusion.", "No effusion.", "label lost"),
    ("FINDINGS: Small effusion. Left nodule, recommend CT.", "Small effusion.", "label lost"),
    ("FINDINGS: Single portable upright view of a small effusion.", "Upright view.", "label lost"),
    ("FINDINGS: Mild right effusion, improved.", "Right effusion.", "size lost"),
    (
        "FINDINGS: Small right effusion, large left effusion.",
        "Large right effusion, small left effusion.",
        "size changed",
    ),
    (
        "FINDINGS: Small right effusion and a left nodule.",
        "Small left effusion and a right nodule.",
        "side changed",
    ),
    (
        "FINDINGS: Elevated right hemidiaphragm. Left hilar mass.",
        "Elevated left hemidiaphragm. Right hilar mass.",
        "side changed",
    ),
    ("FINDINGS: Emphysema.", "Clear lungs.", "label invented"),
    ("FINDINGS: Resolving edema.", "Resolving edema.", "prior reference left"),
    ("FINDINGS: Cardiomegaly, similar to prior.", "Cardiomegaly, similar to prior.", "prior reference left"),
    ("FINDINGS: No new infiltrate.", "No new infiltrate.", "prior reference left"),
]


@pytest.mark.parametrize(("raw", "findings", "kind"), REFUSED)
def test_near_misses_of_what_may_go(raw: str, findings: str, kind: str) -> None:
    assert kind in judge_texts(raw, findings, "").kinds


UNLABELED = [
    # raw, clean, kind (None: accepted): findings that have no label of their own
    ("Small hiatal hernia. No effusion.", "No effusion.", "finding lost"),
    ("Small hiatal hernia. No effusion.", "No small hiatal hernia. No effusion.", "finding changed"),
    ("Small effusion.", "Small effusion. Hiatal hernia.", "finding invented"),
    ("Calcified aorta.", "Aortic calcification.", None),
    ("Emphysematous changes, no edema.", "Emphysema. No edema.", None),
    ("Small effusion. Follow up of emphysema.", "Small effusion.", None),
    ("Left basal opacity. No opacity on the right.", "Left basal opacity. No opacity on the right.", None),
    (
        "Left effusion. Left basal opacity.",
        "No left effusion. Left effusion. Left basal opacity.",
        "label changed",
    ),
]


@pytest.mark.parametrize(("raw", "findings", "kind"), UNLABELED)
def test_findings_without_a_label(raw: str, findings: str, kind: str | None) -> None:
    verdict = judge_texts(f"FINDINGS: {raw}", findings, "")
    assert verdict.accepted if kind is None else kind in verdict.kinds


def test_a_denied_side_is_not_bound() -> None:
    raw = "FINDINGS: Right effusion, but no left effusion."
    assert judge_texts(raw, "Right effusion, but no left effusion.", "").accepted
    assert not judge_texts(raw, "Left effusion, but no right effusion.", "").accepted


@given(seed=st.integers(0, 10**6))
def test_a_phantom_report_is_true_to_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    report = write_phantom_report(draw_findings(rng), rng)
    assert judge_texts(report.text, report.findings_text, report.impression_text) == Verdict(True)


@given(seed=st.integers(0, 10**6))
def test_another_phantoms_report_is_refused(seed: int) -> None:
    """Two reports of different findings differ in a label, a side or a size, so the judge must object."""
    rng = np.random.default_rng(seed)
    first, second = draw_findings(rng), draw_findings(rng)
    if _described(first) == _described(second):
        return
    raw, other = write_phantom_report(first, rng), write_phantom_report(second, rng)
    assert not judge_texts(raw.text, other.findings_text, other.impression_text).accepted


def _described(findings: tuple[PhantomFinding, ...]) -> set[tuple[str, str | None]]:
    return {(finding.kind, finding.side) for finding in findings}


@given(seed=st.integers(0, 10**6))
def test_swapped_sides_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    findings = draw_findings(rng)
    report = write_phantom_report(findings, rng)
    swap = {"right": "left", "left": "right"}
    sides = [finding.side for finding in findings if finding.side in swap]
    if not sides:
        return
    words = {"Right": "Left", "Left": "Right", **swap}
    swapped = [
        " ".join(_swap_word(word, words) for word in text.split(" "))
        for text in (report.findings_text, report.impression_text)
    ]
    assert not judge_texts(report.text, *swapped).accepted


def _swap_word(word: str, words: dict[str, str]) -> str:
    for side, other in words.items():
        if side in word:
            return word.replace(side, other)
    return word


@given(raw=st.text(max_size=200), findings=st.text(max_size=200), impression=st.text(max_size=60))
def test_any_text_gets_a_verdict(raw: str, findings: str, impression: str) -> None:
    verdict = judge_texts(raw, findings, impression)
    assert verdict.accepted == (not verdict.complaints)
    assert len(verdict.kinds) == len(verdict.complaints)


LONG = [
    " " * 20_000 + "edema",
    "1 x " * 5_000,
    "discussed " * 2_000,
    "no " + "a " * 5_000,
    "\n" * 10_000 + "edema",
]


@pytest.mark.parametrize("text", LONG, ids=[text.strip()[:9] for text in LONG])
def test_long_runs_take_no_time(text: str) -> None:
    began = time.process_time()
    judge_texts(f"FINDINGS: {text}", text, "")
    assert time.process_time() - began < 3.0


def test_report_text_leaves_out_an_empty_section() -> None:
    assert report_text("Clear lungs.", "") == "FINDINGS: Clear lungs."
    assert report_text("", "Normal.") == "IMPRESSION: Normal."
    assert report_text("A.", "B.") == "FINDINGS: A.\nIMPRESSION: B."
