"""Every cleaning rule with one hit and one near miss; whole sentences by hand; and what must hold of any text."""

from __future__ import annotations

import re
from collections import Counter

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


def numbered(rules: tuple) -> dict:
    """Name rules by their name and their place among those of the same name, as the tables below do."""
    seen: Counter[str] = Counter()
    named = {}
    for rule in rules:
        seen[rule.name] += 1
        named[f"{rule.name} {seen[rule.name]}"] = rule
    return named


DROPS = {
    # rule: what it drops, and what is like it and stays
    "communication 1": (
        "Findings were discussed with Dr. ___ at 9:15 AM.",
        "The lungs were reviewed for nodules.",
    ),
    "communication 2": ("The team was notified by telephone.", "An implanted phone clip overlies the chest."),
    "staff 1": ("Dictated by the resident physician.", "There is a resident foreign body."),
    "filler 1": ("Please see above.", "See-through artifact over the left base."),
    "comparison 1": ("Comparison is made to the prior study of ___.", "The right base is poorly compared."),
    "comparison 2": (
        "No prior studies are available for comparison.",
        "No comparison mass in the left lung.",
    ),
    "technique 1": ("PA and lateral views of the chest were obtained.", "The chest is clear on both views."),
    "change only 1": ("No significant interval change.", "Degenerative change of the spine."),
    "change only 2": (
        "There is no relevant change since the prior study of ___.",
        "There is no change of the bones.",
    ),
    "change only 3": ("Improved aeration of the lungs.", "Poor aeration of the lungs."),
    "change only 4": ("Mediastinum.", "The mediastinum is midline."),
    "removed device 1": ("The endotracheal tube has been removed.", "A removable denture overlies the neck."),
    "correction 1": ("The side should read left.", "A corrected transposition of the vessels."),
}

RULES = {
    # rule: a sentence, the same cleaned, and a sentence like it that the rule leaves alone
    "communication 1": (
        "Small pneumothorax, discussed with Dr. ___.",
        "Small pneumothorax.",
        "Small pneumothorax discussed with nobody.",
    ),
    "technique 1": (
        "Portable AP view of the chest demonstrates edema.",
        "Edema.",
        "Portable AP view of the chest.",
    ),
    "technique 2": ("Lateral view shows the lungs to be clear.", "Lungs are clear.", "Lungs to the left."),
    "technique 3": ("AP view shows the heart to be enlarged.", "Heart is enlarged.", "Heart up to be seen."),
    "technique 4": (
        "On the current study, there is edema.",
        "There is edema.",
        "On the right, there is edema.",
    ),
    "technique 5": ("Edema on today's film.", "Edema.", "Edema on today's radiograph of the knee."),
    "markup 1": ("Edema is mild.&gt;]", "Edema is mild.", "Edema & effusion."),
    "filler 1": ("Please note that there is edema.", "There is edema.", "Footnotes that cite edema."),
    "filler 2": ("Left nodule as described above.", "Left nodule.", "Left nodule described as round."),
    "filler 3": (
        "Nodule (see above) in the left lung.",
        "Nodule in the left lung.",
        "Nodule (seen at the left).",
    ),
    "prior measurement 1": (
        "Nodule measures 8 mm, previously 6 mm.",
        "Nodule measures 8 mm.",
        "Nodule measures 8 mm by 6 mm.",
    ),
    "prior: aside 1": ("Left effusion (unchanged).", "Left effusion.", "Left effusion (small)."),
    "prior: comparison 1": (
        "Compared to the prior study of ___, there is mild edema.",
        "There is mild edema.",
        "Compared to the right, there is more edema.",
    ),
    "prior: comparison 2": (
        "Since the prior study, there is mild edema.",
        "There is mild edema.",
        "From the left there is mild edema.",
    ),
    "prior: comparison 3": (
        "Mild edema when compared to the previous radiograph.",
        "Mild edema.",
        "Larger effusion on the right compared to the left.",
    ),
    "prior: comparison 4": (
        "Left nodule seen on the prior CT.",
        "Left nodule.",
        "Nodule consistent with prior granulomatous disease.",
    ),
    "prior: comparison 5": ("Mild edema since ___.", "Mild edema.", "Mild edema since admission of air."),
    "prior: comparison 6": (
        "Comparison ___ Clear lungs.",
        "Clear lungs.",
        "Comparison of the sides is hard.",
    ),
    "prior: interval 1": (
        "Edema developed in the interval.",
        "Edema developed.",
        "Edema in the interstitium.",
    ),
    "prior: interval 2": (
        "In the interval, there has been edema.",
        "Edema.",
        "In the apices, there has been edema.",
    ),
    "prior: no change 1": (
        "No change in the left effusion.",
        "Left effusion.",
        "No effusion in the left base.",
    ),
    "prior: no change 2": ("Left effusion without change.", "Left effusion.", "Left effusion without air."),
    "prior: change 1": (
        "Slight interval increase in size of the moderate effusion.",
        "Moderate effusion.",
        "There is increased opacity in the left lung.",
    ),
    "prior: change 2": ("Interval development of edema.", "Edema.", "Development of the lungs is normal."),
    "prior: change 3": (
        "Near complete resolution of the left effusion.",
        "Left effusion.",
        "Near complete collapse of the left lung.",
    ),
    "prior: change 4": (
        "Improved aeration of the lungs with small effusion.",
        "Small effusion.",
        "Poor aeration of the lungs with small effusion.",
    ),
    "prior: change 5": (
        "The size of the effusion is unchanged.",
        "Effusion.",
        "The size of the effusion is 2 cm.",
    ),
    "prior: change 6": (
        "Small effusion and improved aeration of the left base.",
        "Small effusion.",
        "Small effusion and poor aeration of the left base.",
    ),
    "prior: resolved 1": (
        "Interval resolution of the effusion.",
        "No effusion.",
        "High resolution CT is advised.",
    ),
    "prior: resolved 2": (
        "The previously seen effusion has resolved.",
        "No effusion.",
        "The effusion has not resolved.",
    ),
    "prior: resolved 3": (
        "There is no longer evidence of edema.",
        "There is no evidence of edema.",
        "The catheter is no longer than 5 cm.",
    ),
    "prior: seen before 1": (
        "The previously seen nodule is in the left lung.",
        "Nodule is in the left lung.",
        "The previously healthy lung shows a nodule.",
    ),
    "prior: seen before 2": (
        "The nodule seen previously is round.",
        "The nodule is round.",
        "The nodule seen now.",
    ),
    "prior: again 1": ("Again seen is a left nodule.", "There is a left nodule.", "Seen is a left nodule."),
    "prior: again 2": ("Again, there is mild edema.", "There is mild edema.", "Against this is mild edema."),
    "prior: again 3": ("Redemonstrated is a left nodule.", "Left nodule.", "Demonstrated is a left nodule."),
    "prior: again 4": ("Edema is again noted.", "Edema is present.", "Edema is noted."),
    "prior: again 5": ("Edema again seen.", "Edema present.", "Edema seen against the wall."),
    "prior: again 6": ("There is, once again, mild edema.", "There is mild edema.", "Air against the wall."),
    "prior: again 7": (
        "Normal heart with redemonstration of the left nodule.",
        "Normal heart with left nodule.",
        "Normal heart with demonstration of the left nodule.",
    ),
    "prior: again 8": ("Left nodule redemonstrated.", "Left nodule.", "Left nodule demonstrated."),
    "prior: predicate 1": (
        "The heart is stable and mildly enlarged.",
        "The heart is mildly enlarged.",
        "The heart is round and mildly enlarged.",
    ),
    "prior: predicate 2": (
        "The left effusion is unchanged.",
        "Left effusion.",
        "The left effusion is loculated.",
    ),
    "prior: predicate 3": (
        "The left effusion has improved.",
        "Left effusion.",
        "The left effusion has loculated.",
    ),
    "prior: predicate 5": (
        "The effusion has increased, likely malignant.",
        "The effusion, likely malignant.",
        "The effusion has loculated, likely malignant.",
    ),
    "prior: predicate 6": (
        "The effusion is stable and there is mild edema.",
        "The effusion is present and there is mild edema.",
        "The effusion is small and there is mild edema.",
    ),
    "prior: predicate 7": (
        "The effusions are stable and there is mild edema.",
        "The effusions are present and there is mild edema.",
        "The effusions are small and there is mild edema.",
    ),
    "prior: predicate 8": ("Left effusion persists.", "Left effusion.", "Lung remains of normal size."),
    "prior: predicate 9": (
        "An effusion persists in the left base.",
        "An effusion in the left base.",
        "Effusion in the base.",
    ),
    "prior: predicate 4": (
        "The nodule, which is unchanged, is round.",
        "The nodule is round.",
        "The nodule, which is small, is round.",
    ),
    "prior: predicate 10": (
        "Left effusion, slightly improved, with edema.",
        "Left effusion, with edema.",
        "Left effusion, slightly loculated, with edema.",
    ),
    "prior: aside 2": (
        "Left effusion, with interval improvement.",
        "Left effusion.",
        "Left effusion, with interval fracture.",
    ),
    "prior: aside 3": ("Left scarring as before.", "Left scarring.", "Left scarring before the hilum."),
    "prior: constancy 1": (
        "Mild edema, stable mediastinal contours.",
        "Mild edema.",
        "Mild edema, wide mediastinal contours.",
    ),
    "prior: constancy 2": (
        "Stable cardiomediastinal silhouette with clear lungs.",
        "Clear lungs.",
        "Normal cardiomediastinal silhouette with clear lungs.",
    ),
    "prior: constancy 3": (
        "The mediastinum is stable with tortuous aorta.",
        "Tortuous aorta.",
        "The mediastinum is wide with tortuous aorta.",
    ),
    "prior: position 1": (
        "The tube is in unchanged position.",
        "The tube is in place.",
        "The tube is in a high position.",
    ),
    "prior: adjective 1": ("Stable appearance of the nodule.", "Nodule.", "Round appearance of the nodule."),
    "prior: adjective 2": ("Unchanged small effusion.", "Small effusion.", "Unilateral small effusion."),
    "prior: adjective 3": (
        "Increased left pleural effusion.",
        "Left pleural effusion.",
        "Increased lung markings.",
    ),
    "prior: verb 1": ("The heart remains enlarged.", "The heart is enlarged.", "The remains of a catheter."),
    "prior: verb 2": ("The lungs remain clear.", "The lungs are clear.", "The remaining lungs are clear."),
    "prior: verb 3": (
        "The lungs continue to show edema.",
        "The lungs show edema.",
        "The lungs that continue to the apex.",
    ),
    "date 1": (
        "Tube placed on 3/4/2012 at 9:15 AM is in place.",
        "Tube placed is in place.",
        "A ratio of 16.2/24.7.",
    ),
    "date 2": ("Tube placed on 3/14.", "Tube placed.", "Old fracture of ribs 3/4."),
    "de-identification mark 1": ("Normal chest x-XXXX.", "Normal chest x-ray.", "Normal chest XXXX."),
    "de-identification mark 2": (
        "There are no XXXX of a large pleural effusion.",
        "There is no large pleural effusion.",
        "There are no XXXX in the lung.",
    ),
    "de-identification mark 3": ("With no XXXX of edema.", "No edema.", "With XXXX of edema."),
    "de-identification mark 4": ("XXXX left nodule.", "Left nodule.", "XXXX are normal."),
    "de-identification mark 5": (
        "No XXXX pleural effusion.",
        "No pleural effusion.",
        "Opacity, XXXX atelectasis.",
    ),
    "de-identification mark 6": (
        "Left costophrenic XXXX blunting.",
        "Left costophrenic blunting.",
        "Blunted costophrenic XXXX.",
    ),
    "de-identification mark 7": (
        "The heart, pulmonary XXXX and mediastinum are normal.",
        "The heart and mediastinum are normal.",
        "The heart, lungs and mediastinum are normal.",
    ),
    "de-identification mark 8": (
        "Normal pulmonary XXXX and vasculature.",
        "Normal pulmonary vasculature.",
        "Normal pulmonary XXXX and aorta.",
    ),
    "de-identification mark 9": (
        "The heart and pulmonary XXXX are normal.",
        "The heart is normal.",
        "Cardiac and mediastinal XXXX are normal.",
    ),
    "de-identification mark 10": (
        "The lungs and costophrenic XXXX are clear.",
        "The lungs are clear.",
        "The lungs and pleura are clear.",
    ),
    "de-identification mark 11": (
        "XXXX and soft tissues are unremarkable.",
        "Soft tissues are unremarkable.",
        "XXXX and soft collars are seen.",
    ),
}


def test_every_rule_is_in_the_tables() -> None:
    assert set(RULES) == set(numbered(load_rules().phrases))
    assert set(DROPS) == set(numbered(load_rules().drops))


@pytest.mark.parametrize("name", DROPS)
def test_a_sentence_that_goes_and_one_that_stays(name: str) -> None:
    rule = numbered(load_rules().drops)[name]
    hit, miss = DROPS[name]
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


@pytest.mark.parametrize("name", RULES)
def test_a_hit_and_a_near_miss(name: str) -> None:
    rule = numbered(load_rules().phrases)[name]
    hit, wanted, miss = RULES[name]
    assert mended(hit) == wanted
    assert rule.name in {change.rule for change in clean_report(f"FINDINGS: {hit}").changes}
    assert not changes_it(rule, miss)


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
