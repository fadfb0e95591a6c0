"""How much of what can go wrong in a rewriting does the deterministic judge catch, and how much does it refuse wrongly?

    python benchmarks/judge_damage.py [REPORTS.jsonl[.gz]] [--count 1000] [--out benchmarks/results]

Each report (phantom reports, or rows with "findings" and "impression") is cleaned by rules; of those that the judge
accepts, one sentence of the findings is damaged in one known way at a time. A damaged report that is refused was
caught. "labelled" means that the damaged sentence mentions one of the 14 labels. Takes seconds.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import gzip
import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unixcxr.cleaning.judge import judge_report, judge_texts
from unixcxr.cleaning.rules import clean_report
from unixcxr.labels import label_sentences
from unixcxr.labels.text import split_sentences
from unixcxr.phantom import draw_findings, write_phantom_report

SIZES = ("small", "large", "mild", "moderate", "severe", "minimal")
SIZE = re.compile(rf"\b({'|'.join(SIZES)})\b", re.IGNORECASE)
SIDE = re.compile(r"\b(right|left)\b", re.IGNORECASE)
DENIAL = re.compile(r"^(?:There (?:is|are) )?no ", re.IGNORECASE)
CLAIM = re.compile(r"^There (is|are) (?:an? )?(?!no)", re.IGNORECASE)


def damaged(sentence: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield (kind of damage, damaged sentence); an empty sentence is a lost one."""
    yield "lose a sentence", ""
    if SIDE.search(sentence):
        yield "swap the side", SIDE.sub(lambda m: {"right": "left", "left": "right"}[m[1].lower()], sentence)
    if match := SIZE.search(sentence):
        other = rng.choice([size for size in SIZES if size != match[1].lower()])
        yield "change the size", SIZE.sub(other, sentence, count=1)
    if DENIAL.search(sentence):
        yield "affirm what is denied", DENIAL.sub("There is ", sentence)
    if CLAIM.search(sentence):
        yield "deny what is affirmed", CLAIM.sub(r"There \1 no ", sentence)


def read_reports(path: str, count: int) -> list[tuple[str, str]]:
    """Return (findings, impression) of phantoms, or of a random part of the rows of a file."""
    if not path:
        rngs = (np.random.default_rng(seed) for seed in range(count))
        drawn = [write_phantom_report(draw_findings(rng), rng) for rng in rngs]
        return [(report.findings_text, report.impression_text) for report in drawn]
    with gzip.open(path, "rt") if path.endswith(".gz") else Path(path).open() as file:
        rows = [json.loads(line) for line in file]
    random.Random(0).shuffle(rows)
    return [(row["findings"] or "", row["impression"] or "") for row in rows[:count]]


def measure(reports: list[tuple[str, str]]) -> dict[str, object]:
    """Damage every sentence of every accepted report in every way that fits; count what is refused."""
    rng = random.Random(0)
    caught, total = collections.Counter[str](), collections.Counter[str]()
    refusals, busy, accepted = collections.Counter[str](), 0.0, 0
    for findings, impression in reports:
        raw = f"FINDINGS: {findings}\n\nIMPRESSION: {impression}"
        clean = clean_report(raw)
        began = time.process_time()
        verdict = judge_report(raw, clean)
        busy += time.process_time() - began
        refusals.update(set(verdict.kinds))
        accepted += verdict.accepted
        sentences = [clean.findings[start:end] for start, end in split_sentences(clean.findings)]
        for index, sentence in enumerate(sentences if verdict.accepted else ()):
            labelled = any(part.labels for part in label_sentences(sentence))
            for kind, other in damaged(sentence, rng):
                name = f"{kind}, {'labelled' if labelled else 'unlabelled'}"
                text = " ".join([*sentences[:index], other, *sentences[index + 1 :]])
                total[name] += 1
                caught[name] += not judge_texts(raw, text, clean.impression).accepted
    return {
        "reports": len(reports),
        "accepted after the rules": accepted,
        "reports refused by kind of complaint": dict(refusals.most_common()),
        "judge, ms of processor time a report": round(1000 * busy / len(reports), 2),
        "caught, of": {name: [caught[name], total[name]] for name in sorted(total)},
    }


def main() -> None:
    """Measure, print, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", nargs="?", default="")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    result = measure(read_reports(options.reports, options.count))
    name = Path(options.reports).name.split(".")[0] or "phantom"
    target = options.out / f"{datetime.date.today()}_judge_damage_{name}.json"
    target.write_text(json.dumps({"source": name, **result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
