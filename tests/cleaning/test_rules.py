"""Every cleaning rule with one hit and one near miss; whole sentences by hand; and what must hold of any text."""

from __future__ import annotations

import re
import time
import tomllib
from collections import Counter
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import unixcxr
from unixcxr.cleaning import CleanReport, clean_report
from unixcxr.cleaning.draft import Draft
from unixcxr.cleaning.facts import MEASURES, load_words
from unixcxr.cleaning.judge import judge_report
from unixcxr.cleaning.rules import Rule, apply_rule, load_rules
from unixcxr.labels import label_report, label_sentences
from unixcxr.labels.report import sentence_states
from unixcxr.phantom import draw_findings, write_phantom_report


def mended(sentence: str) -> str:
    """Clean one sentence of findings; "" when it is dropped."""
    return clean_report(f"FINDINGS: {sentence}").findings


def written_rules() -> dict[str, list[dict[str, str]]]:
    """Read rules.toml as it is written: each rule carries a hit and a near miss."""
    text = resources.files("unixcxr.cleaning").joinpath("rules.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


WRITTEN = written_rules()


@pytest.mark.parametrize(
    "place", range(len(WRITTEN["drop"])), ids=lambda i: f"{i} {WRITTEN['drop'][i]['hit']}"
)
def test_a_sentence_that_goes_and_one_that_stays(place: int) -> None:
    rule, written = load_rules().drops[place], WRITTEN["drop"][place]
    hit, miss = written["hit"], written["miss"]
    assert rule.holds(hit, sentence_states(hit), mended=False)
    report = clean_report(f"FINDINGS: {hit}")
    assert report.findings == ""
    assert [change.rule for change in report.changes] == [f"dropped: {rule.name}"]
    assert not rule.holds(miss, sentence_states(miss), mended=False)


def changes_it(rule: Rule, sentence: str) -> bool:
    """Say whether one rule alone changes a sentence."""
    draft = Draft(sentence, 0, len(sentence))
    apply_rule(draft, rule)
    return bool(draft.changes)


@pytest.mark.parametrize(
    "place", range(len(WRITTEN["rule"])), ids=lambda i: f"{i} {WRITTEN['rule'][i]['hit']}"
)
def test_a_hit_and_a_near_miss(place: int) -> None:
    rule, written = load_rules().phrases[place], WRITTEN["rule"][place]
    assert mended(written["hit"]) == written["cleaned"] != written["hit"]
    assert rule.name in {change.rule for change in clean_report(f"FINDINGS: {written['hit']}").changes}
    assert not changes_it(rule, written["miss"])


SENTENCES = [
    (
        "Stable cardiomegaly and mild pulmonary vascular congestion.",
        "Cardiomegaly and mild pulmonary vascular congestion.",
    ),
    ("Compared to ___, there is little change in the bibasilar atelectasis.", "Bibasilar atelectasis."),
    ("Moderate cardiomegaly is unchanged since ___.", "Moderate cardiomegaly."),
    (
        "Worsening bibasilar consolidation, concerning for pneumonia.",
        "Bibasilar consolidation, concerning for pneumonia.",
    ),
    ("New opacity compared to ___ may represent pneumonia.", "Opacity may represent pneumonia."),
    ("Right PICC tip in the mid SVC, unchanged.", "Right PICC tip in the mid SVC."),
    (
        "1.5 cm nodule in the left upper lobe, unchanged from CT chest dated ___.",
        "1.5 cm nodule in the left upper lobe.",
    ),
    ("BILATERAL EFFUSIONS. RIGHT PICC IN THE SVC.", "Bilateral effusions. Right PICC in the SVC."),
    ("small  effusion ,with edema ..", "Small effusion, with edema."),
    ("There is an new opacity.", "There is an opacity."),
    (
        "The pneumothorax is larger on the right than on the left.",
        "The pneumothorax is larger on the right than on the left.",
    ),
    # what cannot be mended safely goes
    ("XXXX change.", ""),
    ("Opacity, XXXX atelectasis.", ""),
    ("Blunting of the left costophrenic XXXX.", ""),
    ("This was not present on the previous study.", ""),
    ("The heart and lungs have XXXX XXXX in the interval.", ""),
]


@pytest.mark.parametrize(("sentence", "wanted"), SENTENCES)
def test_whole_sentences(sentence: str, wanted: str) -> None:
    assert mended(sentence) == wanted


def test_a_denial_of_the_new_goes_where_the_old_stands() -> None:
    report = clean_report("FINDINGS: Stable left consolidation. No new consolidation.")
    assert report.findings == "Left consolidation."
    assert report.changes[-1].rule == "dropped: no new"
    assert mended("No new consolidation.") == "No consolidation."


RAW = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___ year old man with ETT  // interval change

 COMPARISON:  ___

 The endotracheal tube ends 3.5 cm above the carina. Compared to the prior study, the small right effusion is
 unchanged. No pneumothorax.

 IMPRESSION:

 1. Stable small right pleural effusion.
 2. Findings were discussed with Dr. ___ by telephone at 10:15 a.m. on ___.
"""


def test_a_whole_report_and_its_trail() -> None:
    report = clean_report(RAW)
    assert report.findings == (
        "The endotracheal tube ends 3.5 cm above the carina. Small right effusion. No pneumothorax."
    )
    assert report.impression == "Small right pleural effusion."
    rules = Counter(change.rule for change in report.changes)
    assert rules["section: indication"] == rules["section: comparison"] == rules["section: exam"] == 1
    assert rules["dropped: communication"] == 1
    assert rules["list number"] == 2
    for change in report.changes:
        assert RAW[slice(*change.span)] == change.before
    assert judge_report(RAW, report).accepted


def test_text_is_both_sections_under_their_headings() -> None:
    assert CleanReport("A.", "B.").text == "FINDINGS: A.\n\nIMPRESSION: B."
    assert CleanReport("", "B.").text == "IMPRESSION: B."
    assert CleanReport("", "").text == ""


def test_the_public_names_are_there() -> None:
    assert unixcxr.clean_report is clean_report


def test_clean_text_is_left_alone() -> None:
    """Phantom reports speak of no prior, so cleaning may not touch a word of them."""
    for seed in range(40):
        generator = np.random.default_rng(seed)
        raw = write_phantom_report(draw_findings(generator), generator)
        report = clean_report(raw.text)
        assert judge_report(raw.text, report).accepted
        assert label_report(report.text) == label_report(raw.text)


ADDED = {"present", "is", "are", "no", "there", "in", "place", "ray", "an", "with"}
"""The only words that rules may write."""
WORDS = """the|a|small|left|right|effusion|edema|heart|is|are|has|enlarged|clear|no|unchanged|stable|new|again|seen
increased|resolved|remains|persistent|interval|compared to the prior study|since ___|XXXX|___|in the interval|of|and
with|or|but|Dr. ___|at 9:15 AM|3/4/2012|2.5 cm|tube|1.|- |,|.|;|:|(|)|FINDINGS:|IMPRESSION:|HISTORY:|Comparison:
ADDENDUM:|possible|nodule|which|not|NO"""
PHRASES = st.sampled_from([*WORDS.replace("\n", "|").split("|"), "\n", "\n\n"])
TEXTS = st.one_of(st.lists(PHRASES, max_size=30).map(" ".join), st.text(max_size=60))


@given(TEXTS)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean_report(text)
    twice = clean_report(once.text)
    assert (twice.findings, twice.impression, twice.changes) == (once.findings, once.impression, ())


@given(TEXTS)
def test_every_change_stands_in_the_raw_text(text: str) -> None:
    report = clean_report(text)
    assert report == clean_report(text)
    for change in report.changes:
        assert text[slice(*change.span)] == change.before


@given(TEXTS)
def test_nothing_appears_and_no_prior_stays(text: str) -> None:
    clean = clean_report(text).text
    lowered = text.casefold()
    for word in re.findall(
        r"[^\W\d_]+", clean.replace("FINDINGS:", "").replace("IMPRESSION:", "").casefold()
    ):
        assert word in lowered or word in ADDED
    assert load_words().prior.search(clean) is None
    assert "__" not in clean
    for pattern in (load_words().side, load_words().device):
        named = [{match.lastgroup for match in pattern.finditer(words)} for words in (clean, text)]
        assert named[0] <= named[1]
    assert {match[0] for match in MEASURES.finditer(clean)} <= {match[0] for match in MEASURES.finditer(text)}


@given(st.lists(PHRASES, min_size=1, max_size=12).map(" ".join))
def test_a_mended_sentence_keeps_its_labels(text: str) -> None:
    spans = label_sentences(f"FINDINGS: {text}")
    report = clean_report(f"FINDINGS: {text}")
    if len(spans) == 1 and report.findings and not any(c.rule.startswith("dropped") for c in report.changes):
        assert label_report(report.text) == label_report(spans[0].text)


@pytest.mark.parametrize(
    "unit", ["___ ", "XXXX, ", "prior ", "3/4/2012 ", "the previous study of ___ and ", "is stable and "]
)
def test_repetition_costs_no_more_than_length(unit: str) -> None:
    """Nested repetition in a pattern would double the time with each word: 40 would take days."""
    clean_report("FINDINGS: Compile the rules.")
    started = time.process_time()
    for opening in ("Compared to ", "Effusion since ", "There is ", ""):
        clean_report(f"FINDINGS: {opening}{unit * 40}effusion.")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [
        ("Left pneumothorax on the prior film is no longer seen.", "No left pneumothorax."),
        ("Kerley B lines have resolved.", "No Kerley B lines."),
        ("Small effusion has resolved.", "No small effusion."),
    ],
)
def test_a_word_behind_no_loses_its_capital_and_a_name_keeps_it(sentence: str, wanted: str) -> None:
    assert clean_report(f"FINDINGS: {sentence}").findings == wanted
