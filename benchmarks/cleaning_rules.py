"""What do the cleaning rules do to real reports?

    python benchmarks/cleaning_rules.py --iu iu_openi_reports.jsonl.gz

Prints Markdown for docs/cleaning.md: sentences kept, mended and dropped, changes per rule, agreement of the labels
before and after, what the deterministic judge says, reports per second on one core. Only counts are printed, no text.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from pathlib import Path

from unixcxr.cleaning import CleanReport, clean_report
from unixcxr.cleaning.judge import judge_report
from unixcxr.cleaning.rules import clean_sentence
from unixcxr.cleaning.sections import split_report
from unixcxr.labels import label_report
from unixcxr.labels.report import sentence_states
from unixcxr.labels.text import split_sentences
from unixcxr.records import LABELS

SECTIONS = ("indication", "comparison", "findings", "impression")
TIDYING = {"spacing", "punctuation", "case", "article", "list number"}


def read_reports(path: Path) -> list[str]:
    """Return the IU reports that have findings or an impression, with their headings."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        "\n\n".join(f"{name.upper()}: {row[name]}" for name in SECTIONS if row.get(name))
        for row in rows
        if row.get("findings") or row.get("impression")
    ]


def count_sentences(reports: list[str]) -> tuple[Counter[str], int, int]:
    """Return sentences by fate, how many mended ones there are, and how many of these keep every label."""
    fates: Counter[str] = Counter()
    mended = same = 0
    for raw in reports:
        affirmed = {label for label, state in label_report(raw).items() if state in ("positive", "uncertain")}
        for part in split_report(raw):
            if part.place == "out":
                continue
            for start, end in split_sentences(raw, part.start, part.end):
                draft = clean_sentence(raw, start, end, affirmed)
                rules = {change.rule for change in draft.changes} - TIDYING
                if not draft.text:
                    fate = draft.changes[-1].rule
                    fates[fate if fate.startswith("dropped") else "nothing but punctuation"] += 1
                elif rules:
                    fates["mended"] += 1
                    mended += 1
                    same += sentence_states(draft.text) == sentence_states(raw[start:end])
                else:
                    fates["kept as it is, or only tidied"] += 1
    return fates, mended, same


def label_table(reports: list[str], cleaned: list[CleanReport]) -> None:
    """Print how many reports keep each label, and what became of the others."""
    outcomes: Counter[tuple[str, str]] = Counter()
    equal = 0
    for raw, report in zip(reports, cleaned, strict=True):
        before, after = label_report(raw), label_report(report.text)
        equal += before == after
        for label in LABELS:
            was, now = before[label], after[label]
            outcome = "same" if was == now else "lost" if now is None else "new" if was is None else "changed"
            outcomes[label, outcome] += 1
    print(f"\nReports with all 14 labels the same before and after: {share(equal, len(reports))}.\n")
    print("| label | same | lost | changed | new |")
    print("|---|---|---|---|---|")
    for label in LABELS:
        print(
            f"| {label} | {' | '.join(str(outcomes[label, o]) for o in ('same', 'lost', 'changed', 'new'))} |"
        )


def share(part: int, whole: int) -> str:
    """Write a share with its counts."""
    return f"{part / whole:.1%} ({part}/{whole})"


def main() -> None:
    """Clean all reports, count, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iu", type=Path, required=True, help="IU reports, gzipped JSON lines")
    reports = read_reports(parser.parse_args().iu)
    clean_report("Compile the rules.")
    started = time.process_time()
    cleaned = [clean_report(report) for report in reports]
    rate = len(reports) / (time.process_time() - started)
    length = sum(map(len, reports)) / len(reports)
    print(
        f"{len(reports)} reports of {length:.0f} characters on average; {rate:.0f} reports per second on one core.\n"
    )
    fates, mended, same = count_sentences(reports)
    print("| sentence | count |\n|---|---|")
    for fate, count in fates.most_common():
        print(f"| {fate} | {count} |")
    print(f"| all | {fates.total()} |")
    print(f"\nMended sentences that keep every label: {share(same, mended)}.")
    changes = Counter(change.rule for report in cleaned for change in report.changes)
    print("\n| change | count |\n|---|---|")
    for rule, count in changes.most_common():
        if not rule.startswith("dropped"):
            print(f"| {rule} | {count} |")
    label_table(reports, cleaned)
    empty = sum(not report.text for report in cleaned)
    again = sum(clean_report(report.text).changes == () for report in cleaned)
    print(
        f"\nReports left empty: {empty}. Reports that a second cleaning leaves alone: {share(again, len(reports))}."
    )
    verdicts = Counter()
    for raw, report in zip(reports, cleaned, strict=True):
        verdict = judge_report(raw, report)
        unreadable = any(c.rule == "dropped: de-identification mark" for c in report.changes)
        outcome = "accepted" if verdict.accepted else "rejected"
        verdicts[f"{outcome}, {'some' if unreadable else 'no'} sentence dropped for a mark"] += 1
    print("\n| the deterministic judge | reports |\n|---|---|")
    for outcome, count in sorted(verdicts.items()):
        print(f"| {outcome} | {count} |")


if __name__ == "__main__":
    main()
