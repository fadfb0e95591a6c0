"""How often is the rule labeler right?

    python benchmarks/labels_quality.py [--set tests/data/labels_heldout.jsonl] [--iu iu_openi_reports.jsonl.gz]

Prints Markdown for docs/labels.md: precision and recall per label and state on the held-out sentences, and, given
the IU reports as JSON lines (findings, impression, mesh), how a label's presence agrees with their MeSH terms.
Only counts are printed, no text. Score the held-out set once per release and never tune on it.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from pathlib import Path

from unixcxr.labels import label_report
from unixcxr.records import LABELS

HELD_OUT = Path(__file__).parent.parent / "tests" / "data" / "labels_heldout.jsonl"
STATES = ("positive", "uncertain", "negative")
DEVICES = ("catheters, indwelling", "implanted medical device", "tube, inserted", "medical device", "stents")
MESH = {
    "normal": "No Finding",
    "cardiomegaly": "Cardiomegaly",
    "pulmonary atelectasis": "Atelectasis",
    "pleural effusion": "Pleural Effusion",
    "hemothorax": "Pleural Effusion",
    "pulmonary congestion": "Edema",
    "pulmonary edema": "Edema",
    "heart failure": "Edema",
    "pneumonia": "Pneumonia",
    "consolidation": "Consolidation",
    "pneumothorax": "Pneumothorax",
    "fractures, bone": "Fracture",
    "nodule": "Lung Lesion",
    "mass": "Lung Lesion",
    "surgical instruments": "Support Devices",
    **dict.fromkeys(DEVICES, "Support Devices"),
    **dict.fromkeys(("opacity", "airspace disease", "infiltrate", "density", "markings"), "Lung Opacity"),
}
"""MeSH headings of the IU reports that mean one label, in small letters."""


def ratio(part: int, whole: int) -> str:
    """Write a share with its counts."""
    return f"{part / whole:.3f} ({part}/{whole})" if whole else "–"


def score_sentences(path: Path) -> None:
    """Print precision and recall per label over (label, state) pairs, and per state over all labels."""
    gold_count: Counter[tuple[str, str]] = Counter()
    found_count: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    exact = 0
    for row in rows:
        gold = set(row["labels"].items())
        found = {(label, state) for label, state in label_report(row["text"]).items() if state}
        gold_count.update(gold)
        found_count.update(found)
        right.update(gold & found)
        exact += gold == found
    print("| label | gold + / ? / − | precision | recall | + precision | + recall |")
    print("|---|---|---|---|---|---|")
    for label in LABELS:
        pairs = [(label, state) for state in STATES]
        print(
            f"| {label} | {' / '.join(str(gold_count[pair]) for pair in pairs)} "
            f"| {ratio(sum(right[p] for p in pairs), sum(found_count[p] for p in pairs))} "
            f"| {ratio(sum(right[p] for p in pairs), sum(gold_count[p] for p in pairs))} "
            f"| {ratio(right[pairs[0]], found_count[pairs[0]])} | {ratio(right[pairs[0]], gold_count[pairs[0]])} |"
        )
    for state in STATES:
        pairs = [(label, state) for label in LABELS if label != "No Finding"]
        hits = sum(right[p] for p in pairs)
        print(
            f"| all but No Finding, {state} | {sum(gold_count[p] for p in pairs)} "
            f"| {ratio(hits, sum(found_count[p] for p in pairs))} "
            f"| {ratio(hits, sum(gold_count[p] for p in pairs))} | | |"
        )
    print(
        f"| **micro** | {gold_count.total()} | {ratio(right.total(), found_count.total())} "
        f"| {ratio(right.total(), gold_count.total())} | | |"
    )
    print(f"\nTexts with every label right: {ratio(exact, len(rows))}.")


def mesh_labels(terms: list[str]) -> set[str]:
    """Return the labels that MeSH terms of an IU report stand for."""
    labels = set()
    for term in terms:
        heading, *qualifiers = (word.strip().lower() for word in term.split("/"))
        if heading in MESH:
            labels.add(MESH[heading])
        if heading in ("hydropneumothorax", "hemopneumothorax"):
            labels |= {"Pneumothorax", "Pleural Effusion"}
        if heading in ("cardiac shadow", "heart") and "enlarged" in qualifiers:
            labels.add("Cardiomegaly")
        if heading == "mediastinum" and {"enlarged", "prominent"} & set(qualifiers):
            labels.add("Enlarged Cardiomediastinum")
        if heading in ("thickening", "cicatrix") and "pleura" in qualifiers:
            labels.add("Pleural Other")
    return labels


def score_iu(path: Path) -> None:
    """Print, for each half of the IU reports, how "positive or uncertain" agrees with the MeSH terms."""
    counts: Counter[tuple[int, str, str]] = Counter()
    reports = [0, 0]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for index, line in enumerate(file):
            row = json.loads(line)
            text = "\n\n".join(f"{k.upper()}: {row[k]}" for k in ("findings", "impression") if row.get(k))
            if not text or "No Indexing" in row["mesh"]:
                continue
            half, wanted = index % 2, mesh_labels(row["mesh"])
            reports[half] += 1
            for label, state in label_report(text).items():
                counts[half, label, "gold"] += label in wanted
                counts[half, label, "found"] += state in ("positive", "uncertain")
                counts[half, label, "affirmed"] += state == "positive"
                counts[half, label, "right"] += state in ("positive", "uncertain") and label in wanted
                counts[half, label, "affirmed right"] += state == "positive" and label in wanted
    print(
        f"\n| label | even reports (n = {reports[0]}): + precision | recall "
        f"| odd reports (n = {reports[1]}): + precision | recall |"
    )
    print("|---|---|---|---|---|")
    for label in LABELS:
        cells = []
        for half in (0, 1):
            cells.append(ratio(counts[half, label, "affirmed right"], counts[half, label, "affirmed"]))
            cells.append(ratio(counts[half, label, "right"], counts[half, label, "gold"]))
        print(f"| {label} | {' | '.join(cells)} |")


def main() -> None:
    """Score the sentences, and the IU reports if given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", type=Path, default=HELD_OUT, help="JSON lines of text and labels")
    parser.add_argument("--iu", type=Path, help="IU reports, gzipped JSON lines")
    arguments = parser.parse_args()
    score_sentences(arguments.set)
    if arguments.iu:
        score_iu(arguments.iu)


if __name__ == "__main__":
    main()
