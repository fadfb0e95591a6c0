"""What the embedded model can do: reports, sides, pictures, autoencoder, on data it was not trained on.

    python benchmarks/embedded_quality.py [--pack DIR] [--model DIR] [--out NAME]

Phantoms come from held-out seeds and need nothing. With `--pack` (a folder with `index.jsonl`), its valid split
adds real pictures and composites on them. Writes `benchmarks/results/NAME.json` and `NAME.md`. Intervals are 95%
percentile bootstraps over pictures, 1,000 draws, seed 0. Labels are positive ones, read by the rule labeler.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import unixcxr
from unixcxr.phantom import sample_phantom
from unixcxr.records import LABELS
from unixcxr.sampling.engine import Engine, load_engine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import embedded_corpus

logger = logging.getLogger("embedded_quality")

FIRST_SEED = 900_000
"""Held-out phantom seeds start here; training used seeds below 100,000."""
RESULTS = Path(__file__).parent / "results"
SIDED_WORDS = {
    "effusion": "effusion",
    "pneumothorax": "pneumothorax",
    "consolidation": "consolidation",
    "nodule": "nodule|mass",
    "atelectasis": "atelectasis",
    "pacemaker": "pacemaker",
    "central_line": "central",
}
"""Kinds that have a side, and how a phrase names them."""


@dataclass(frozen=True)
class Case:
    """One held-out picture and what is true of it."""

    id: str
    image: NDArray[np.uint8]
    labels: frozenset[str]
    sides: Mapping[str, frozenset[str]] = field(default_factory=dict)
    prompt: str = ""


@dataclass
class Table:
    """One measured group: its rows are (quantity, value, low, high, n)."""

    title: str
    note: str
    rows: list[tuple[str, float, float | None, float | None, int]] = field(default_factory=list)

    def add(self, name: str, count: int, statistic: Callable[[NDArray[np.intp]], float]) -> None:
        """Add a statistic of picture indices with its bootstrap interval; NaN draws are left out."""
        generator = np.random.default_rng(0)
        everything = np.arange(count)
        draws = [statistic(generator.integers(0, count, count)) for _ in range(1000)]
        kept = [value for value in draws if not np.isnan(value)]
        low, high = np.percentile(kept, [2.5, 97.5]) if kept else (None, None)
        self.rows.append((name, statistic(everything), low, high, count))


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--out", default=f"{date.today()}_embedded_v1")
    parser.add_argument("--phantoms", type=int, default=300)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    engine = load_engine(arguments.model)
    started = time.monotonic()
    phantoms = phantom_cases(arguments.phantoms)
    tables = [*reading(engine, phantoms, "phantoms"), reconstruction(engine, phantoms[:64], "phantoms")]
    tables.append(drawing(engine, phantoms[: arguments.pictures], "phantom"))
    if arguments.pack:
        real = real_cases(arguments.pack)
        composites = composite_cases(arguments.pack)
        tables += reading(engine, composites, "composites on real adults")
        tables.append(adult_normals(engine, real["adult"]))
        tables.append(paediatric(engine, real["paediatric"]))
        for name in ("adult", "paediatric"):
            tables.append(reconstruction(engine, real[name][:150], f"real {name} pictures"))
        adults = [case for case in composites if not case.prompt.startswith("Phantom")]
        tables.append(drawing(engine, adults[:: max(1, len(adults) // arguments.pictures)], "adult"))
    write_results(arguments, engine, tables, time.monotonic() - started)


def phantom_cases(count: int) -> list[Case]:
    """Draw held-out phantoms."""
    cases = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        phantom = sample_phantom(seed, embedded_corpus.SIZE_PX)
        positive = frozenset(label for label, state in phantom.labels.items() if state == "positive")
        where = sides_of(embedded_corpus.finding_targets(phantom.findings))
        cases.append(Case(f"phantom-{seed}", phantom.image, positive, where, phantom.prompt))
    return cases


def composite_cases(pack: Path) -> list[Case]:
    """Paint findings onto the valid split's normal adults; their first report says what is true."""
    return [
        Case(row.id, image, positives(row.reports[0]), sides_of(row.targets), row.prompts[0])
        for row, image in embedded_corpus.composites(pack, "valid", 3)
    ]


def sides_of(targets: Mapping[str, bool]) -> dict[str, frozenset[str]]:
    """Return the sides of each sided kind that is present."""
    return {
        kind: frozenset(side for side in ("left", "right") if targets[f"{kind} {side}"])
        for kind in SIDED_WORDS
        if targets[kind]
    }


def real_cases(pack: Path) -> dict[str, list[Case]]:
    """Read the valid split by source."""
    cases: dict[str, list[Case]] = {}
    for row, image in embedded_corpus.real_pictures(pack, "valid"):
        truth = frozenset(["Pneumonia"] if row.targets.get("pneumonia") else ["No Finding"])
        cases.setdefault(row.source, []).append(Case(row.id, image, truth))
    return cases


def reading(engine: Engine, cases: Sequence[Case], name: str) -> list[Table]:
    """Score reports by label and by side, with a blank picture and with shuffled pictures as controls."""
    texts = reports(engine, [case.image for case in cases])
    truth = indicator([case.labels for case in cases])
    found = indicator([positives(text) for text in texts])
    blank = positives(engine.write_report(np.full((256, 256), 128, np.uint8)).text)
    shuffled = np.roll(found, len(cases) // 2, axis=0)
    table = Table(f"Reports of {name}", "F1 over the labels that the truth holds; greedy text")
    present = np.flatnonzero(truth.any(axis=0))
    for title, answers in (
        ("", found),
        (" (control: report of another picture)", shuffled),
        (" (control: blank picture)", np.tile(indicator([blank]), (len(cases), 1))),
    ):
        table.add(f"micro F1{title}", len(cases), lambda i, a=answers: micro_f1(truth[i], a[i]))  # type: ignore[misc]
        table.add(f"macro F1{title}", len(cases), lambda i, a=answers: macro_f1(truth[i], a[i], present))  # type: ignore[misc]
    labels = Table(f"Reports of {name}, label by label", "F1; n is how often the label is true")
    for column in present:
        labels.add(LABELS[column], len(cases), lambda i, c=column: micro_f1(truth[i, c], found[i, c]))  # type: ignore[misc]
        labels.rows[-1] = (*labels.rows[-1][:4], int(truth[:, column].sum()))
    return [table, labels, sides(cases, texts, name)]


def sides(cases: Sequence[Case], texts: Sequence[str], name: str) -> Table:
    """Score the side named for findings that are on one side only and whose kind the report names."""
    table = Table(
        f"Sides in reports of {name}",
        "share of right sides among one-sided findings whose sentence names exactly one side; chance 0.5",
    )
    everything: list[bool] = []
    for kind, word in SIDED_WORDS.items():
        right: list[bool] = []
        for case, text in zip(cases, texts, strict=True):
            on, named = case.sides.get(kind, frozenset()), _sides_named(text, word)
            if len(on) == 1 and len(named) == 1:
                right.append(on == named)
        everything += right
        if right:
            table.add(kind, len(right), lambda i, r=right: float(np.array(r)[i].mean()))  # type: ignore[misc]
    if everything:
        table.add("all", len(everything), lambda i: float(np.array(everything)[i].mean()))
    return table


def adult_normals(engine: Engine, cases: Sequence[Case]) -> Table:
    """Say how often a real normal adult is called normal."""
    texts = reports(engine, [case.image for case in cases])
    normal = np.array([not (positives(text) - {"No Finding"}) for text in texts])
    table = Table("Real normal adults (valid)", "share of reports without any positive finding")
    table.add("called normal", len(cases), lambda i: float(normal[i].mean()))
    return table


def paediatric(engine: Engine, cases: Sequence[Case]) -> Table:
    """Score normal against pneumonia within the paediatric source."""
    texts = reports(engine, [case.image for case in cases])
    truth = np.array(["Pneumonia" in case.labels for case in cases])
    found = np.array(["Pneumonia" in positives(text) for text in texts])
    table = Table(
        "Real children (valid): normal or pneumonia", f"{truth.sum()} pneumonia, {(~truth).sum()} normal"
    )
    table.add("sensitivity", len(cases), lambda i: _mean(found[i][truth[i]]))
    table.add("specificity", len(cases), lambda i: _mean(~found[i][~truth[i]]))
    table.add(
        "balanced accuracy",
        len(cases),
        lambda i: 0.5 * (_mean(found[i][truth[i]]) + _mean(~found[i][~truth[i]])),
    )
    return table


def reconstruction(engine: Engine, cases: Sequence[Case], name: str) -> Table:
    """Score the autoencoder."""
    table = Table(f"Autoencoder on {name}", "peak signal-to-noise ratio in dB at two sizes")
    for size_px in (128, 256):
        values = []
        for case in cases:
            pixels = torch.from_numpy(case.image.copy())[None, None].float() / 127.5 - 1
            pixels = torch.nn.functional.interpolate(pixels, size=(size_px, size_px), mode="area")
            with torch.no_grad():
                decoded = engine.autoencoder.decode(engine.autoencoder.encode(pixels)).clamp(-1, 1)
            values.append(10 * np.log10(4 / (decoded - pixels).square().mean().item()))
        table.add(f"PSNR at {size_px} px", len(cases), lambda i, v=values: float(np.array(v)[i].mean()))  # type: ignore[misc]
    return table


def drawing(engine: Engine, cases: Sequence[Case], name: str) -> Table:
    """Draw held-out prompts and read the pictures back with the model's own reader."""
    pictures = engine.draw_images([case.prompt for case in cases], seeds=list(range(len(cases))))
    found = indicator([positives(text) for text in reports(engine, [np.asarray(p.image) for p in pictures])])
    truth = indicator([positives(case.prompt) for case in cases])
    shuffled = np.roll(found, len(cases) // 2, axis=0)
    table = Table(
        f"Pictures drawn from held-out {name} prompts",
        "read back by the model's own reader, which is no independent judge; default sampling settings",
    )
    for title, answers in (("", found), (" (control: shuffled prompts)", shuffled)):
        table.add(f"micro F1{title}", len(cases), lambda i, a=answers: micro_f1(truth[i], a[i]))  # type: ignore[misc]
        table.add(f"recall{title}", len(cases), lambda i, a=answers: recall(truth[i], a[i]))  # type: ignore[misc]
    for column in np.flatnonzero(truth.any(axis=0)):
        table.add(
            f"recall of {LABELS[column]}",
            len(cases),
            lambda i, c=column: recall(truth[i, c], found[i, c]),  # type: ignore[misc]
        )
        table.rows[-1] = (*table.rows[-1][:4], int(truth[:, column].sum()))
    return table


def reports(engine: Engine, images: Sequence[NDArray[np.uint8]]) -> list[str]:
    """Write the reports of pictures."""
    return [report.text for report in engine.write_reports(list(images), batch_size=16)]


def positives(text: str) -> frozenset[str]:
    """Return the labels that a text states as present."""
    return frozenset(label for label, state in unixcxr.label_report(text).items() if state == "positive")


def indicator(labels: Sequence[frozenset[str]]) -> NDArray[np.bool_]:
    """Return (pictures, labels) of what is present."""
    return np.array([[label in present for label in LABELS] for present in labels])


def micro_f1(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    """Return 2 TP / (2 TP + FP + FN) over everything given; NaN where nothing is true or found."""
    both, either = (truth & found).sum(), truth.sum() + found.sum()
    return float(2 * both / either) if either else float("nan")


def macro_f1(truth: NDArray[np.bool_], found: NDArray[np.bool_], columns: NDArray[np.intp]) -> float:
    """Return the mean F1 of some labels."""
    return float(np.nanmean([micro_f1(truth[:, c], found[:, c]) for c in columns]))


def recall(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    """Return the share of true labels that were found; NaN where nothing is true."""
    return float((truth & found).sum() / truth.sum()) if truth.any() else float("nan")


def write_results(
    arguments: argparse.Namespace, engine: Engine, tables: Sequence[Table], seconds: float
) -> None:
    """Write the tables as JSON and Markdown."""
    RESULTS.mkdir(exist_ok=True)
    settings = {
        "model": engine.config.name,
        "sampling": asdict(engine.config.sampling),
        "phantom_seeds": [FIRST_SEED, FIRST_SEED + arguments.phantoms - 1],
        "picture_seeds": [0, arguments.pictures - 1],
        "versions": {
            "unixcxr": unixcxr.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "device": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "seconds": round(seconds),
    }
    (RESULTS / f"{arguments.out}.json").write_text(
        json.dumps({"settings": settings, "tables": [asdict(table) for table in tables]}, indent=1) + "\n"
    )
    lines = [
        f"# {engine.config.name}: measured on held-out data",
        "",
        "Written by `benchmarks/embedded_quality.py`.",
    ]
    lines += ["", "```json", json.dumps(settings), "```"]
    for table in tables:
        lines += [
            "",
            f"## {table.title}",
            "",
            table.note,
            "",
            "| | value | 95% interval | n |",
            "|---|---|---|---|",
        ]
        for name, value, low, high, count in table.rows:
            interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
            lines.append(f"| {name} | {value:.3f} | {interval} | {count} |")
    (RESULTS / f"{arguments.out}.md").write_text("\n".join(lines) + "\n")
    logger.info("%s: written after %.0f s", RESULTS / f"{arguments.out}.md", seconds)


def _sides_named(text: str, word: str) -> set[str]:
    """Return the sides in the phrases of a text that name a finding and do not deny it."""
    phrases = re.split(r"[.\n;,]| and ", text.lower())
    named = [phrase for phrase in phrases if re.search(word, phrase) and not re.search(r"\bno\b", phrase)]
    both = {"left", "right"} if any(re.search("bilateral|both", phrase) for phrase in named) else set()
    return both | {side for side in ("left", "right") for phrase in named if re.search(side, phrase)}


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


if __name__ == "__main__":
    main()
