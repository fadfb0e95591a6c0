"""The numbered conventions of docs/labels.md, each with sentences whose labels follow from it by reading."""

from __future__ import annotations

import pytest

from unixcxr.labels import label_report
from unixcxr.records import LABELS

POSITIVE, NEGATIVE, UNCERTAIN = "positive", "negative", "uncertain"
NORMAL = {"No Finding": POSITIVE}


def mentioned(text: str) -> dict[str, str]:
    """Return the labels that are not None."""
    return {label: state for label, state in label_report(text).items() if state is not None}


CASES = {
    "1 names and states": [
        ("The heart is enlarged.", {"Cardiomegaly": POSITIVE}),
        ("The mediastinum is widened.", {"Enlarged Cardiomediastinum": POSITIVE}),
        ("Hazy opacity at the left base.", {"Lung Opacity": POSITIVE}),
        ("A nodule in the right upper lobe.", {"Lung Lesion": POSITIVE}),
        ("Interstitial edema.", {"Edema": POSITIVE}),
        ("Left lower lobe consolidation.", {"Consolidation": POSITIVE}),
        ("Lobar pneumonia.", {"Pneumonia": POSITIVE}),
        ("Bibasilar atelectasis.", {"Atelectasis": POSITIVE}),
        ("Small apical pneumothorax.", {"Pneumothorax": POSITIVE}),
        ("Layering effusion.", {"Pleural Effusion": POSITIVE}),
        ("Apical pleural thickening.", {"Pleural Other": POSITIVE}),
        ("Fracture of the left clavicle.", {"Fracture": POSITIVE}),
        ("Right internal jugular line.", {"Support Devices": POSITIVE, **NORMAL}),
    ],
    "2 strongest state wins": [
        ("No right effusion. Small left effusion.", {"Pleural Effusion": POSITIVE}),
        ("Small left effusion. No right effusion.", {"Pleural Effusion": POSITIVE}),
        ("No effusion on the right. Possible left effusion.", {"Pleural Effusion": UNCERTAIN}),
        ("Possible left effusion. Right effusion.", {"Pleural Effusion": POSITIVE}),
    ],
    "3 No Finding": [
        ("No effusion.", {"Pleural Effusion": NEGATIVE, **NORMAL}),
        ("Pacemaker in place.", {"Support Devices": POSITIVE, **NORMAL}),
        ("No effusion. Pacemaker.", {"Pleural Effusion": NEGATIVE, "Support Devices": POSITIVE, **NORMAL}),
        ("Possible effusion.", {"Pleural Effusion": UNCERTAIN}),
        ("Emphysema.", {}),
        ("Possible free air.", {}),
        ("No effusion. Large hiatal hernia.", {"Pleural Effusion": NEGATIVE}),
        ("No free air. No hernia.", NORMAL),
    ],
    "4 no parent from a child": [
        ("Pleural effusion.", {"Pleural Effusion": POSITIVE}),
        ("Right lower lobe infiltrate.", {"Lung Opacity": POSITIVE}),
        ("Multifocal airspace disease.", {"Lung Opacity": POSITIVE}),
        ("Coarse reticular markings.", {"Lung Opacity": POSITIVE}),
        ("Interstitial markings are prominent.", {"Lung Opacity": POSITIVE}),
        ("Left lower lobe collapse.", {"Atelectasis": POSITIVE}),
        ("Findings of lung infection.", {"Pneumonia": POSITIVE}),
        ("Calcified pleural plaques.", {"Pleural Other": POSITIVE}),
        ("Multiple metastases.", {"Lung Lesion": POSITIVE}),
        ("Left hilar mass.", {"Lung Lesion": POSITIVE}),
    ],
    "5 certainty": [
        *(
            (f"Opacity {words} pneumonia.", {"Lung Opacity": POSITIVE, "Pneumonia": POSITIVE})
            for words in ("consistent with", "compatible with", "representing", "in keeping with")
        ),
        *(
            (f"Opacity, {words} pneumonia.", {"Lung Opacity": POSITIVE, "Pneumonia": UNCERTAIN})
            for words in (
                "likely",
                "probable",
                "possible",
                "suspicious for",
                "concerning for",
                "favored to be",
            )
        ),
        ("Opacity that may be pneumonia.", {"Lung Opacity": POSITIVE, "Pneumonia": UNCERTAIN}),
        ("Atelectasis versus pneumonia.", {"Atelectasis": UNCERTAIN, "Pneumonia": UNCERTAIN}),
        ("Borderline cardiomegaly.", {"Cardiomegaly": UNCERTAIN}),
        ("Pneumonia cannot be excluded.", {"Pneumonia": UNCERTAIN}),
    ],
    "6 heart and mediastinum": [
        ("Heart size is normal.", {"Cardiomegaly": NEGATIVE, **NORMAL}),
        ("Cardiomediastinal silhouette is normal.", {"Enlarged Cardiomediastinum": NEGATIVE, **NORMAL}),
        ("Cardiac silhouette is enlarged.", {"Cardiomegaly": POSITIVE}),
        (
            "Heart and mediastinum are normal.",
            {"Cardiomegaly": NEGATIVE, "Enlarged Cardiomediastinum": NEGATIVE, **NORMAL},
        ),
        ("Hilar contours are normal.", NORMAL),
        ("No mediastinal shift.", NORMAL),
        ("The mediastinum is stable.", NORMAL),
    ],
    "7 no label of their own": [
        ("Lungs are clear.", NORMAL),
        ("Bones are intact.", NORMAL),
        ("No acute process.", NORMAL),
        ("Lungs are clear. Cardiomegaly.", {"Cardiomegaly": POSITIVE}),
    ],
    "8 change": [
        ("The effusion has resolved.", {"Pleural Effusion": NEGATIVE, **NORMAL}),
        ("The infiltrate has cleared.", {"Lung Opacity": NEGATIVE, **NORMAL}),
        ("The pneumothorax is no longer seen.", {"Pneumothorax": NEGATIVE, **NORMAL}),
        ("Interval resolution of edema.", {"Edema": NEGATIVE, **NORMAL}),
        ("Improved edema.", {"Edema": POSITIVE}),
        ("The effusion has decreased.", {"Pleural Effusion": POSITIVE}),
        ("Unchanged pneumothorax.", {"Pneumothorax": POSITIVE}),
        ("No change in the effusion.", {"Pleural Effusion": POSITIVE}),
        ("The consolidation has not resolved.", {"Consolidation": POSITIVE}),
    ],
    "9 removed devices": [
        ("The endotracheal tube has been removed.", {"Support Devices": NEGATIVE, **NORMAL}),
        ("Interval removal of the chest tube.", {"Support Devices": NEGATIVE, **NORMAL}),
        ("ETT removed. PICC in place.", {"Support Devices": POSITIVE, **NORMAL}),
        ("Status post CABG.", NORMAL),
        ("Status post lobectomy.", NORMAL),
    ],
    "10 old fractures; what is asked": [
        ("Old healed rib fractures.", {"Fracture": POSITIVE}),
        ("INDICATION: Pneumonia. FINDINGS: Clear lungs.", NORMAL),
        ("HISTORY: Effusion. FINDINGS: Cardiomegaly.", {"Cardiomegaly": POSITIVE}),
        ("REASON FOR EXAM: Pneumothorax.\n\nIMPRESSION: Atelectasis.", {"Atelectasis": POSITIVE}),
        ("Rule out pneumonia.", NORMAL),
        ("History of lung cancer.", NORMAL),
    ],
    "11 words that look alike": [
        ("Pneumatic compression sleeves.", NORMAL),
        ("Seen in fracture clinic.", NORMAL),
        ("A skin nodule.", NORMAL),
        ("Known knee effusion.", NORMAL),
        ("Edematous arm.", NORMAL),
    ],
}


@pytest.mark.parametrize(
    ("text", "labels"),
    [pytest.param(*case, id=f"{name}: {case[0]}") for name, cases in CASES.items() for case in cases],
)
def test_a_sentence_of_each_convention(text: str, labels: dict[str, str]) -> None:
    assert mentioned(text) == labels


def test_all_labels_are_answered_in_order() -> None:
    assert tuple(label_report("Cardiomegaly.")) == LABELS


@pytest.mark.parametrize("text", ["", "  \n", "1. 2.", "___"])
def test_a_text_without_a_word_says_nothing(text: str) -> None:
    assert mentioned(text) == {}
