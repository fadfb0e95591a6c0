"""Where the parts of a report go: each layout with one hit and one near miss."""

from __future__ import annotations

import pytest

from unixcxr.cleaning.sections import is_title, split_report


def parts(text: str) -> list[tuple[str, str]]:
    """Return (place, or reason when out, and text) of each part."""
    return [(part.reason or part.place, text[part.start : part.end]) for part in split_report(text)]


LAYOUTS = [
    # headed findings and impression
    ("FINDINGS: A.\n\nIMPRESSION: B.", [("findings", "A."), ("impression", "B.")]),
    ("The findings are old.", [("findings", "The findings are old.")]),
    # other names of the two
    ("REPORT: A.\n\nCONCLUSION: B.", [("findings", "A."), ("impression", "B.")]),
    ("The conclusion is open.", [("findings", "The conclusion is open.")]),
    # what goes out
    (
        "INDICATION: A.\n\nTECHNIQUE: B.\n\nCOMPARISON: C.\n\nHISTORY: D.\n\nFINDINGS: E.",
        [
            ("indication", "A."),
            ("technique", "B."),
            ("comparison", "C."),
            ("history", "D."),
            ("findings", "E."),
        ],
    ),
    ("There is no history of comparison.", [("findings", "There is no history of comparison.")]),
    ("IMPRESSION: A.\n\nNOTIFICATION: B.", [("impression", "A."), ("communication", "B.")]),
    ("IMPRESSION: A.\n\nRECOMMENDATION(S): B.", [("impression", "A."), ("recommendation", "B.")]),
    # the last paragraph, after asides only
    (
        "HISTORY: Cough.\n\nCOMPARISON: None.\n\nThe lungs are clear.",
        [("history", "Cough."), ("comparison", "None."), ("findings", "The lungs are clear.")],
    ),
    (
        "HISTORY: Cough.\n\nFever too.\n\nIMPRESSION: A.",
        [("history", "Cough."), ("findings", "Fever too."), ("impression", "A.")],
    ),
    # findings without a heading between comparison and impression
    (
        "COMPARISON: None.\n\nThe heart is large.\n\nIMPRESSION: A.",
        [("comparison", "None."), ("findings", "The heart is large."), ("impression", "A.")],
    ),
    # no heading at all
    ("The heart is large. No effusion.", [("findings", "The heart is large. No effusion.")]),
    ("First.\n\nSecond.", [("findings", "First."), ("findings", "Second.")]),
    # addendum
    ("IMPRESSION: A.\n\nADDENDUM: B.", [("impression", "A."), ("impression", "B.")]),
    ("An addendum follows.", [("findings", "An addendum follows.")]),
    # wet read: out beside a final report, all there is without one
    ("WET READ: A.\n\nFINDINGS: B.", [("wet read", "A."), ("findings", "B.")]),
    ("WET READ: A.", [("findings", "A.")]),
    # the header of a final report
    ("FINAL REPORT\nThe heart is large.", [("findings", "The heart is large.")]),
    ("The final report is late.", [("findings", "The final report is late.")]),
    # titles
    (
        "PORTABLE CHEST RADIOGRAPH\n\nThe heart is large.",
        [("title", "PORTABLE CHEST RADIOGRAPH"), ("findings", "The heart is large.")],
    ),
    ("Chest: cardiomegaly", [("findings", "Chest: cardiomegaly")]),
    ("", []),
    ("FINDINGS:\n\nIMPRESSION: A.", [("impression", "A.")]),
]


@pytest.mark.parametrize(("text", "wanted"), LAYOUTS)
def test_layout(text: str, wanted: list[tuple[str, str]]) -> None:
    assert parts(text) == wanted


@pytest.mark.parametrize(
    ("paragraph", "title"),
    [
        ("CHEST, PA AND LATERAL, 9:14 A.M., ___", True),
        ("Chest radiograph, two views.", True),
        ("______", True),
        ("The chest is clear", False),
        ("Portable chest: small effusion", False),
        ("Lungs clear", False),
    ],
)
def test_titles(paragraph: str, title: bool) -> None:
    assert is_title(paragraph) is title
