"""How far a cue reaches: negation and doubt, forward and backward, lists, clauses, organs with their predicates."""

from __future__ import annotations

import pytest

from unixcxr.labels.report import sentence_states

P, N, U = "positive", "negative", "uncertain"


def states(sentence: str) -> dict[str, str]:
    """Return the labels of one sentence under their first words, for short tables."""
    return {label.split()[-1]: state for label, state in sentence_states(sentence).items()}


FORWARD = [
    ("No effusion, edema or consolidation.", {"Effusion": N, "Edema": N, "Consolidation": N}),
    ("Without effusion or edema.", {"Effusion": N, "Edema": N}),
    ("Neither effusion nor edema.", {"Effusion": N, "Edema": N}),
    ("No effusion but mild edema.", {"Effusion": N, "Edema": P}),
    ("No effusion, mild edema.", {"Effusion": N, "Edema": P}),
    ("No edema, effusion is small.", {"Edema": N, "Effusion": P}),
    ("No edema, effusion or consolidation is seen.", {"Edema": N, "Effusion": N, "Consolidation": N}),
    ("No displaced, acute fracture is seen.", {"Fracture": N}),
    ("Edema without effusion.", {"Edema": P, "Effusion": N}),
    ("No abnormality except cardiomegaly.", {"Cardiomegaly": P}),
    ("Atelectasis rather than consolidation.", {"Atelectasis": P, "Consolidation": N}),
    ("No opacity suspicious for pneumonia.", {"Opacity": N, "Pneumonia": N}),
    ("No effusion, possible edema.", {"Effusion": N, "Edema": U}),
    ("Possible effusion, mild edema.", {"Effusion": U, "Edema": P}),
    ("May represent edema, pneumonia, or atelectasis.", {"Edema": U, "Pneumonia": U, "Atelectasis": U}),
    ("Differential includes pneumonia, edema.", {"Pneumonia": U, "Edema": U}),
    ("Probable pneumonia with small effusion.", {"Pneumonia": U, "Effusion": P}),
    ("?small effusion.", {"Effusion": U}),
    ("Cannot exclude effusion.", {"Effusion": U}),
]
BACKWARD = [
    ("Effusion and edema are not seen.", {"Effusion": N, "Edema": N}),
    ("Consolidation, effusion and edema are absent.", {"Consolidation": N, "Effusion": N, "Edema": N}),
    ("Right effusion is small, left edema is absent.", {"Effusion": P, "Edema": N}),
    ("Atelectasis, effusion has resolved.", {"Atelectasis": P, "Effusion": N}),
    ("The effusion, which was large, has resolved.", {"Effusion": N}),
    ("Effusion: none.", {"Effusion": N}),
    ("Effusion: no.", {"Effusion": N}),
    ("No longer seen is the effusion.", {"Effusion": N}),
    ("Effusion is possible.", {"Effusion": U}),
    ("Small effusion likely.", {"Effusion": U}),
    ("Large effusion, likely malignant.", {"Effusion": P}),
    ("The nodule is likely calcified.", {"Lesion": P}),
    ("Effusion, if any, is small.", {"Effusion": U}),
    ("No effusion, small edema is possible.", {"Effusion": N, "Edema": U}),
    ("Pneumonia is not excluded.", {"Pneumonia": U}),
    ("Opacity may be due to pneumonia.", {"Opacity": P, "Pneumonia": U}),
    ("A nodule not seen on the prior exam.", {"Lesion": P}),
    ("Effusion is not well seen.", {"Effusion": P}),
]
PSEUDO = [
    ("No interval change in the effusion or edema.", {"Effusion": P, "Edema": P}),
    ("Effusion has nearly completely resolved.", {"Effusion": P}),
    ("Not only edema but effusion.", {"Edema": P, "Effusion": P}),
    ("No increase in the effusion.", {"Effusion": P}),
    ("No new effusion.", {"Effusion": N}),
]
ALTERNATIVES = [
    ("Atelectasis or consolidation.", {"Atelectasis": U, "Consolidation": U}),
    ("Atelectasis and consolidation.", {"Atelectasis": P, "Consolidation": P}),
    ("Opacity, edema versus pneumonia.", {"Opacity": P, "Edema": U, "Pneumonia": U}),
    ("No atelectasis or consolidation.", {"Atelectasis": N, "Consolidation": N}),
    ("Atelectasis is favored over pneumonia.", {"Atelectasis": U, "Pneumonia": U}),
]
DEVICES = [
    ("The tip of the tube is not seen.", {"Devices": P}),
    ("The tube has been removed, the catheter remains.", {"Devices": P}),
    ("No tube is seen.", {"Devices": N}),
    ("No pneumothorax after chest tube placement.", {"Pneumothorax": N, "Devices": P}),
    ("Removal of the tube with persistent effusion.", {"Devices": N, "Effusion": P}),
]
ORGANS = [
    ("Heart is enlarged, mediastinum is normal.", {"Cardiomegaly": P, "Cardiomediastinum": N}),
    ("Heart, mediastinum and hila are normal.", {"Cardiomegaly": N, "Cardiomediastinum": N}),
    ("Normal heart size with widened mediastinum.", {"Cardiomegaly": N, "Cardiomediastinum": P}),
    ("No enlargement of the heart or mediastinum.", {"Cardiomegaly": N, "Cardiomediastinum": N}),
    ("No effusion, heart is enlarged.", {"Effusion": N, "Cardiomegaly": P}),
    ("Heart size is stable.", {}),
    ("Heart size is stable and normal.", {"Cardiomegaly": N}),
    ("Heart size is stable, enlarged aorta.", {}),
    ("Heart size is hard to judge but appears enlarged.", {"Cardiomegaly": P}),
    ("Heart size is at the upper limits of normal.", {"Cardiomegaly": U}),
    ("Possible enlargement of the heart.", {"Cardiomegaly": U}),
    ("The heart is not enlarged.", {"Cardiomegaly": N}),
    ("Left heart border is obscured.", {}),
    ("Vascular markings are within normal limits.", {}),
]
TABLES = {
    "forward": FORWARD,
    "backward": BACKWARD,
    "pseudo": PSEUDO,
    "or": ALTERNATIVES,
    "devices": DEVICES,
    "organs": ORGANS,
}


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [pytest.param(*case, id=f"{name}: {case[0]}") for name, table in TABLES.items() for case in table],
)
def test_reach(sentence: str, wanted: dict[str, str]) -> None:
    assert states(sentence) == wanted
