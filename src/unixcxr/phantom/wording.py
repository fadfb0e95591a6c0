"""The phrases that reports and prompts are composed of: per kind of finding, in several wordings.

`{side}`, `{zone}` and `{size}` are filled in. Phrases keep to what docs and tests of the rule labeler agree
on: a phrase never names another label than its own kind's, except where a table says so.
"""

from __future__ import annotations

LABEL_OF = {
    "cardiomegaly": "Cardiomegaly",
    "effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "atelectasis": "Atelectasis",
    "nodule": "Lung Lesion",
    "pacemaker": "Support Devices",
    "central_line": "Support Devices",
    "endotracheal_tube": "Support Devices",
}
"""The CheXpert label that each kind makes positive."""

SIZE_WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("cardiomegaly", "small"): ("mild",),
    ("cardiomegaly", "moderate"): ("moderate",),
    ("cardiomegaly", "large"): ("marked", "severe"),
    ("effusion", "small"): ("small",),
    ("effusion", "moderate"): ("moderate", "moderate-sized"),
    ("effusion", "large"): ("large",),
    ("pneumothorax", "small"): ("small",),
    ("pneumothorax", "large"): ("large",),
    ("edema", "small"): ("mild",),
    ("edema", "moderate"): ("moderate",),
    ("edema", "large"): ("severe", "marked"),
    ("nodule", "small"): ("nodule",),
    ("nodule", "large"): ("mass",),
}

ADVERBS = {"mild": "mildly", "moderate": "moderately", "marked": "markedly", "severe": "severely"}

SENTENCES: dict[str, tuple[str, ...]] = {
    "cardiomegaly": (
        "The heart is {adverb} enlarged.",
        "There is {size} cardiomegaly.",
        "The cardiac silhouette is {adverb} enlarged.",
        "Heart size is {adverb} increased.",
        "{size} enlargement of the heart.",
    ),
    "effusion": (
        "There is a {size} {side} pleural effusion.",
        "{size} {side} pleural effusion is present.",
        "A {size} pleural effusion is seen on the {side}.",
        "{size} {side} pleural effusion with a meniscus along the lateral chest wall.",
        "Fluid fills the {side} costophrenic angle, a {size} pleural effusion.",
    ),
    "effusion_both": (
        "There are {size} bilateral pleural effusions.",
        "{size} pleural effusions are present on both sides.",
        "{size} bilateral pleural effusions are seen.",
        "Both costophrenic angles hold fluid, {size} bilateral pleural effusions.",
    ),
    "pneumothorax": (
        "There is a {size} {side} pneumothorax.",
        "{size} {side} pneumothorax is present.",
        "A {size} pneumothorax is seen on the {side} with a visible visceral pleural edge.",
        "{size} {side} pneumothorax without lung vessels beyond the pleural edge.",
        "Free pleural air on the {side}, a {size} pneumothorax.",
    ),
    "consolidation": (
        "There is consolidation in the {side} {zone} zone.",
        "Consolidation is present in the {side} {zone} lung zone.",
        "{side} {zone} zone consolidation with air bronchograms.",
        "The {side} {zone} lung zone shows dense consolidation.",
        "An area of consolidation lies in the {zone} zone of the {side} lung.",
    ),
    "edema": (
        "There is {size} pulmonary edema.",
        "{size} pulmonary edema with indistinct perihilar vessels is present.",
        "Findings of {size} pulmonary edema with septal lines are seen.",
        "{size} pulmonary edema, most marked around the hila.",
        "Pulmonary vascular congestion with {size} pulmonary edema.",
    ),
    "atelectasis": (
        "There is plate-like atelectasis at the {side} base.",
        "Linear atelectasis is seen at the {side} lung base.",
        "{side} basal atelectasis.",
        "A band of atelectasis crosses the {side} base.",
        "Subsegmental atelectasis is present at the {side} base.",
    ),
    "atelectasis_both": (
        "There is plate-like atelectasis at both bases.",
        "Linear atelectasis is seen at both lung bases.",
        "Bilateral basal atelectasis.",
        "Bands of atelectasis cross both bases.",
    ),
    "nodule": (
        "There is a {size} in the {side} {zone} zone.",
        "A round {size} is seen in the {side} {zone} lung zone.",
        "{side} {zone} zone pulmonary {size}.",
        "A solitary pulmonary {size} projects over the {zone} zone of the {side} lung.",
        "The {side} {zone} lung zone contains a {size}.",
    ),
    "pacemaker": (
        "A {side} chest wall pacemaker with leads is in place.",
        "{side}-sided pacemaker with leads in expected position.",
        "There is a pacemaker over the {side} chest with intact leads.",
        "A pacemaker generator projects over the {side} upper chest.",
    ),
    "central_line": (
        "A {side} central venous catheter ends in the superior vena cava.",
        "{side} central venous line with its tip over the superior vena cava.",
        "A {side}-sided central line is in place.",
        "There is a {side} central venous catheter with its tip in the superior vena cava.",
    ),
    "endotracheal_tube": (
        "An endotracheal tube ends above the carina.",
        "The endotracheal tube tip lies above the carina.",
        "Endotracheal tube in satisfactory position.",
        "The patient is intubated, with the endotracheal tube tip above the carina.",
    ),
}
"""Whole sentences for the findings section; a first letter is raised where needed."""

PHRASES: dict[str, tuple[str, ...]] = {
    "cardiomegaly": (
        "{size} cardiomegaly",
        "{size} cardiomegaly",
        "{adverb} enlarged heart",
        "{adverb} enlarged heart",
        "{size} enlargement of the heart",
        "enlarged heart",
        "cardiomegaly",
    ),
    "effusion": (
        "{size} {side} pleural effusion",
        "{size} {side} pleural effusion",
        "{size} {side} effusion",
        "{size} pleural effusion on the {side}",
        "{side} pleural effusion",
    ),
    "effusion_both": (
        "{size} bilateral pleural effusions",
        "{size} bilateral pleural effusions",
        "{size} pleural effusions on both sides",
        "bilateral pleural effusions",
    ),
    "pneumothorax": (
        "{size} {side} pneumothorax",
        "{size} {side} pneumothorax",
        "{size} {side}-sided pneumothorax",
        "{size} pneumothorax on the {side}",
        "{side} pneumothorax",
    ),
    "consolidation": (
        "{side} {zone} zone consolidation",
        "consolidation in the {side} {zone} zone",
        "{side} {zone} lung consolidation",
    ),
    "edema": (
        "{size} pulmonary edema",
        "{size} pulmonary edema",
        "{size} pulmonary edema with vascular congestion",
        "pulmonary edema",
    ),
    "atelectasis": ("{side} basal atelectasis", "plate-like atelectasis at the {side} base"),
    "atelectasis_both": ("bilateral basal atelectasis", "plate-like atelectasis at both bases"),
    "nodule": (
        "{side} {zone} zone lung {size}",
        "lung {size} in the {side} {zone} zone",
        "{side} {zone} lung {size}",
    ),
    "pacemaker": ("{side} pacemaker", "{side}-sided pacemaker with leads"),
    "central_line": ("{side} central venous catheter", "{side} central venous line"),
    "endotracheal_tube": ("endotracheal tube in place", "endotracheal tube above the carina"),
}
"""Short phrases without a full stop, for the impression and for prompts; now and then one leaves the size out."""

NORMAL_HEART: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("The heart size is normal.", ("Cardiomegaly",)),
    ("Heart size is within normal limits.", ("Cardiomegaly",)),
    ("The heart is not enlarged.", ("Cardiomegaly",)),
    ("No cardiomegaly.", ("Cardiomegaly",)),
    ("Heart size and mediastinal contours are normal.", ("Cardiomegaly", "Enlarged Cardiomediastinum")),
    ("The cardiomediastinal silhouette is normal.", ("Enlarged Cardiomediastinum",)),
)
"""Sentences about a heart of normal size, with the labels that they make negative."""

ABSENT = {
    "effusion": ("pleural effusion",),
    "pneumothorax": ("pneumothorax",),
    "consolidation": ("consolidation", "focal consolidation"),
    "edema": ("pulmonary edema",),
    "nodule": ("pulmonary nodule", "lung mass"),
}
"""Nouns that a negation may name, by the kind that must be absent."""

NEGATIONS = ("No {list}.", "There is no {list}.", "No {list} is seen.", "No evidence of {list}.")
CLEAR_LUNGS = ("The lungs are clear.", "Both lungs are clear.", "Lungs are clear and well expanded.")
FILLERS = ("The bones are intact.", "Bony structures are unremarkable.", "The trachea is midline.")
NORMAL_IMPRESSIONS = (
    "No acute cardiopulmonary abnormality.",
    "Normal chest radiograph.",
    "No acute cardiopulmonary process.",
    "Normal study.",
    "No acute abnormality.",
    "Normal chest.",
)
DEVICE_IMPRESSIONS = ("No acute cardiopulmonary abnormality.", "No acute cardiopulmonary process.")
PROMPT_FRAMES = (
    "{kind} chest X-ray with {list}.",
    "{kind} chest radiograph showing {list}.",
    "{kind} {view} film: {list}.",
)
"""Whole prompts in one sentence."""

NORMAL_PROMPTS = (
    "No acute disease, clear lungs.",
    "Normal heart and lungs.",
    "No acute findings.",
    "Normal chest radiograph.",
    "Normal chest X-ray.",
    "No acute cardiopulmonary abnormality.",
    "Normal chest.",
    "Clear lungs and normal heart size.",
)

KIND_WORDS = {"phantom": "phantom", "adult": "adult", "paediatric": "paediatric"}
OPENINGS = (
    "{kind} chest radiograph.",
    "{kind} radiograph.",
    "{kind} frontal chest radiograph.",
    "{kind} chest radiograph, {view} view.",
    "{kind} {view} chest radiograph.",
)
"""First sentences of a report, naming what was pictured."""

PROMPT_OPENINGS = ("{kind}.", "{kind} chest radiograph.", "{kind} chest X-ray.", "{kind} radiograph.")
