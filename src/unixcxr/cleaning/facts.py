"""What a report states beyond its labels: sides, sizes, measurements, levels and devices, sentence by sentence.

Used by `judge` to compare a report before and after cleaning. Only words are read here; nothing is decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from unixcxr.labels import LabeledSentence, label_sentences
from unixcxr.labels.lexicon import MENTION, find_events

SIDES = {
    "right": r"right(?:[- ]sided|ward)?|rt",
    "left": r"left(?:[- ]sided|ward)?|lt",
    "bilateral": r"bilateral(?:ly)?|both|bi(?:basilar|basal|apical|hilar)",
}
SIZES = {
    "tiny": r"tiny|minute|punctate",
    "trace": r"trace",
    "minimal": r"minimal(?:ly)?",
    "slight": r"slight(?:ly)?",
    "small": r"small(?:[- ]sized)?",
    "mild": r"mild(?:ly)?",
    "moderate": r"moderate(?:ly)?(?:[- ]sized)?",
    "large": r"large(?:[- ]sized)?",
    "marked": r"marked(?:ly)?",
    "severe": r"severe(?:ly)?",
    "massive": r"massive(?:ly)?|huge",
    "extensive": r"extensive(?:ly)?",
}
DEVICES = {
    "endotracheal tube": r"endo ?tracheal(?: tube)?|e\.?t\.? ?tube|ett|intubat\w+",
    "gastric tube": r"(?:naso|oro)?gastric tube|naso ?gastric|oro ?gastric|n\.?g\.? tube|o\.?g\.? tube|ngt|ogt|"
    r"enteric tube|feeding tube|dob ?b?hoff(?: tube)?|naso ?enteric(?: tube)?",
    "gastrostomy": r"gastrostomy|peg(?: tube)?|g[- ]tube|j[- ]tube",
    "chest tube": r"chest (?:tubes?|drains?)|thoracostomy(?: tubes?)?|pigtails?(?: catheters?)?|pleur(?:x|al) (?:catheter|drain)s?",
    "tracheostomy": r"tracheostomy(?: tube)?|trach",
    "central line": r"picc(?: lines?)?|cvc|central (?:venous )?(?:access )?(?:lines?|catheters?)|permcath|hickman|"
    r"(?:ij|jugular|subclavian|femoral|dialysis|venous) (?:\w+ ){0,2}(?:lines?|catheters?)|port[- ]?a?[- ]?caths?|medi ?port",
    "pulmonary artery catheter": r"swan[- ]ganz(?: catheter)?|pulmonary artery catheter|pa catheter",
    "pacemaker": r"pace ?makers?|pacers?|pacing (?:leads?|wires?)|aicd|icds?|defibrillators?|cardioverter\w*",
    "balloon pump": r"balloon pump|iabp",
    "assist device": r"lvad|rvad|ventricular assist device|impella|ecmo",
    "sternal wires": r"sternal (?:wires?|sutures?)|sternotomy (?:wires?|sutures?)|cerclage wires?",
    "clips": r"clips?|staples",
    "stent": r"stent(?:[- ]graft)?s?",
    "valve": r"(?:prosthetic|mechanical|bioprosthetic|artificial|replaced|aortic|mitral) valve(?: prosthes[ie]s| replacement)?|valve replacement|tavr",
    "filter": r"(?:ivc|vena cava) filter",
    "stimulator": r"stimulators?",
    "shunt": r"(?:vp|ventriculo ?peritoneal) shunt|shunt (?:catheter|tubing)",
    "drain": r"drains?",
}
LEVELS = re.compile(
    r"\b(?:(?P<rank>\d{1,2})(?:st|nd|rd|th)|(?P<spine>[tlc])-?(?P<level>\d{1,2})\b(?![-/]\d))", re.IGNORECASE
)
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
RIBS = re.compile(rf"\b({'|'.join(ORDINALS)})\b(?=[\w\s,]{{0,40}}\bribs?\b)", re.IGNORECASE)
MEASURES = re.compile(
    r"(?P<numbers>\d+(?:\.\d+)?(?:\s*(?:x|×|by|-|to)\s*\d+(?:\.\d+)?)*)\s*-?(?P<unit>mm|cm|ml|cc|millimet\w+|centimet\w+)\b",
    re.IGNORECASE,
)

COMMUNICATION = re.compile(
    r"\b(?:(?:discussed|communicated|conveyed|relayed|reviewed|shared) (?:\w+ )*?(?:with|to|by)\b|notified|telephoned|paged|"
    r"(?:was|were|been) (?:informed|contacted|called)|called (?:to|by)|acknowledged|read[- ]?back|dictated|transcribed|"
    r"(?:dr|drs)\b\.?|m\.?d\.?(?=\W|$)|attending|(?:referring|ordering|covering) (?:physician|clinician)|nurse practitioner)",
    re.IGNORECASE,
)
RECOMMENDATION = re.compile(
    r"\b(?:recommend\w*|suggest(?:ed)? (?:\w+ )?(?:follow|ct|repeat|correlat)\w*|advis\w+|follow[- ]?up|consider (?!able)\w+|"
    r"correlat\w+|may be (?:helpful|useful|obtained|considered)|would be (?:helpful|useful)|is (?:suggested|advised)|"
    r"(?:should|could|can) be (?:advanced|retracted|withdrawn|pulled|repositioned|obtained|repeated|performed|considered|evaluated)|"
    r"if (?:clinically|there is|clinical|symptoms)|further (?:evaluation|characteri[sz]ation|imaging|assessment))",
    re.IGNORECASE,
)
TECHNIQUE = re.compile(
    r"\b(?:views?|projections?|radiographs?|technique|obtained|portable|upright|supine|rotat(?:ed|ion)|exposure|penetrat\w+|"
    r"comparisons?|images? (?:of|were)|exam(?:ination)?)\b",
    re.IGNORECASE,
)
RESOLVED = re.compile(
    r"\b(?:resol(?:ved|ution|ving)|cleared|clearing|no longer|removed|removal|extubat\w+|previous(?:ly)?|prior|interval|"
    r"not (?:seen|present|identified|visuali[sz]ed) (?:today|now|currently))\b",
    re.IGNORECASE,
)
ASIDE_PHRASES = re.compile(
    r"\b(?:compared? (?:to|with)|in comparison (?:to|with)|relative to|since|previous(?:ly)?|prior|from (?:the )?(?:prior|previous)|"
    r"than (?:on )?(?:the |before)?(?:prior|previous)?|versus (?:the )?(?:prior|previous))\b[^.;,]*",
    re.IGNORECASE,
)
CHANGE = r"(?:interval|increas\w+|decreas\w+|improv\w+|worse\w*|larger|smaller|better|progress\w+|regress\w+|clear\w+|change\w*|less|more)"
DEGREE_OF_CHANGE = re.compile(
    rf"\b(?:{'|'.join(SIZES.values())})(?=,?\s+{CHANGE}\b)|\b{CHANGE}\s+(?:is\s+)?(?:{'|'.join(SIZES.values())})\b(?=\s*[.,;]|$)",
    re.IGNORECASE,
)
CLAUSE = re.compile(r"[,;:()]|\s(?:and|with|but|while|whereas|or|without)\s", re.IGNORECASE)


def _named(table: dict[str, str], prefix: str = r"(?<![a-z])", suffix: str = r"(?![a-z])") -> re.Pattern[str]:
    groups = "|".join(f"(?P<{name.replace(' ', '_')}>{words})" for name, words in table.items())
    return re.compile(rf"{prefix}(?:{groups}){suffix}", re.IGNORECASE)


SIDE_WORDS, SIZE_WORDS, DEVICE_WORDS = _named(SIDES), _named(SIZES), _named(DEVICES)
SIDED_NOUN = re.compile(
    r"\b(right|left)(?:[- ]sided)?\s+(?:(?:lower|upper|mid|middle|small|large|mild|moderate)\s+)*([a-z]{3,})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Bound:
    """A label with the side and the size that stand in its own clause; None where none or several stand there."""

    label: str
    side: str | None
    size: str | None


@dataclass(frozen=True)
class StatedSentence:
    """One sentence with its labels, and whether it is an aside: about a message, an advice or how it was filmed."""

    text: str
    labels: dict[str, str]
    is_aside: bool
    tells_resolution: bool


@dataclass(frozen=True)
class Statements:
    """All that one text states; `required` sets leave out what asides and comparisons alone say."""

    sentences: tuple[StatedSentence, ...]

    def words(self, pattern: re.Pattern[str], required: bool = False) -> set[str]:
        """Return the canonical names (group names of `pattern`) that occur; only in required text if asked."""
        return {
            (match.lastgroup or "").replace("_", " ")
            for text in self._texts(required)
            for match in pattern.finditer(text)
        }

    def measures(self, required: bool = False) -> set[str]:
        """Return measurements as "number unit", one for each number of "3 x 4 cm"."""
        return {
            f"{number} {_unit(match['unit'])}"
            for text in self._texts(required)
            for match in MEASURES.finditer(text)
            for number in re.findall(r"\d+(?:\.\d+)?", match["numbers"])
        }

    def levels(self, required: bool = False) -> set[str]:
        """Return ribs and vertebrae by number ("6", "t12")."""
        found = set()
        for text in self._texts(required):
            for match in LEVELS.finditer(text):
                found.add(
                    str(int(match["rank"]))
                    if match["rank"]
                    else f"{match['spine'].lower()}{int(match['level'])}"
                )
            found.update(str(ORDINALS.index(match[1].lower()) + 1) for match in RIBS.finditer(text))
        return found

    def sided_nouns(self) -> set[tuple[str, str]]:
        """Return (side, noun) for each noun that follows a side ("right hemidiaphragm")."""
        return {
            (side.lower(), noun.lower())
            for text in self._texts(False)
            for side, noun in SIDED_NOUN.findall(text)
        }

    def bounds(self) -> set[Bound]:
        """Return each positive or uncertain label with the side and size of its clause."""
        return {bound for s in self.sentences if not s.is_aside for bound in _bounds(s)}

    def near(self, label: str, pattern: re.Pattern[str]) -> set[str]:
        """Return the names said in a sentence that speaks of the label, or in one beside it."""
        found: set[str] = set()
        for index, sentence in enumerate(self.sentences):
            if label in sentence.labels:
                around = self.sentences[max(index - 1, 0) : index + 2]
                found |= {m.lastgroup or "" for s in around for m in pattern.finditer(s.text)}
        return found

    def _texts(self, required: bool) -> Iterable[str]:
        if not required:
            return (sentence.text for sentence in self.sentences)
        kept = (s for s in self.sentences if not s.is_aside and not s.tells_resolution)
        return (without_comparison(sentence.text) for sentence in kept)


def read_statements(text: str) -> Statements:
    """Read the sentences that the labeler reads (no indication, technique or comparison section)."""
    return Statements(tuple(_stated(sentence) for sentence in label_sentences(text)))


def without_comparison(sentence: str) -> str:
    """Drop what is said about an earlier film and how much something changed, so that present facts remain."""
    return DEGREE_OF_CHANGE.sub("", ASIDE_PHRASES.sub("", sentence))


def _stated(sentence: LabeledSentence) -> StatedSentence:
    text = sentence.text
    positive = "positive" in sentence.labels.values()
    filmed = not sentence.labels and TECHNIQUE.search(text) is not None
    aside = filmed or (not positive and bool(COMMUNICATION.search(text) or RECOMMENDATION.search(text)))
    return StatedSentence(
        text, dict(sentence.labels), aside, not positive and RESOLVED.search(text) is not None
    )


def _bounds(sentence: StatedSentence) -> Iterable[Bound]:
    spoken = {label for label, state in sentence.labels.items() if state != "negative"}
    if not spoken:
        return
    text = without_comparison(sentence.text)
    cuts = [0, *(cut.start() for cut in CLAUSE.finditer(text)), len(text)]
    events = [event for event in find_events(text.lower()) if event.kind == MENTION]
    for start, end in zip(cuts, cuts[1:], strict=False):
        clause = text[start:end]
        side, size = _only(SIDE_WORDS, clause), _only(SIZE_WORDS, clause)
        for event in events:
            if start <= event.start < end:
                yield from (Bound(label, side, size) for label in event.labels if label in spoken)


def _only(pattern: re.Pattern[str], clause: str) -> str | None:
    found = {match.lastgroup for match in pattern.finditer(clause)}
    return found.pop() if len(found) == 1 else None


def _unit(word: str) -> str:
    lowered = word.lower()
    return {"millimet": "mm", "centimet": "cm"}.get(lowered[:8], "ml" if lowered == "cc" else lowered)
