"""How many different reports does the rule labeler read per second on one core?

    python benchmarks/labeler_speed.py [--iu iu_openi_reports.jsonl.gz] [--reports 4000]

Without the IU reports it reads phantom reports. Every report is different, and the labeler remembers no sentence.
Processor time is measured, so that a busy machine does not count; the worst of three rounds is printed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path

from unixcxr.labels import label_report

SECTIONS = ("indication", "comparison", "findings", "impression")


def iu_reports(path: Path) -> list[str]:
    """Return the different IU reports with their headings."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return sorted({"\n\n".join(f"{k.upper()}: {row[k]}" for k in SECTIONS if row.get(k)) for row in rows})


def phantom_reports(count: int) -> list[str]:
    """Return up to `count` different phantom reports."""
    import numpy as np

    from unixcxr.phantom import draw_findings, write_phantom_report

    texts = set()
    for seed in range(count):
        generator = np.random.default_rng(seed)
        texts.add(write_phantom_report(draw_findings(generator), generator).text)
    return sorted(texts)


def main() -> None:
    """Read all reports three times and print the slowest rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iu", type=Path, help="IU reports, gzipped JSON lines")
    parser.add_argument("--reports", type=int, default=4000, help="phantom reports to write without --iu")
    arguments = parser.parse_args()
    reports = iu_reports(arguments.iu) if arguments.iu else phantom_reports(arguments.reports)
    label_report("Compile the word lists.")
    rates = []
    for _ in range(3):
        started = time.process_time()
        for report in reports:
            label_report(report)
        rates.append(len(reports) / (time.process_time() - started))
    length = sum(map(len, reports)) / len(reports)
    print(
        f"{min(rates):.0f} reports per second on one core ({len(reports)} different, {length:.0f} characters each)"
    )


if __name__ == "__main__":
    main()
