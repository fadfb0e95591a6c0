"""Does cleaning help? The same small text model on raw and on cleaned reports, scored against held-out truth.

    OMP_NUM_THREADS=1 python benchmarks/cleaning_ablation.py [--reports 2000] [--steps 500] [--seeds 3]

A phantom's findings (kind, side, zone, size) stand in for the image. Its report is made raw: comparisons with earlier
films, findings that have resolved, marks, indication, technique, messages, advice. One arm learns the raw text, the
other what `RulesRewriter` makes of it; same network, same start, same number of steps and batches. Each then writes a
report for held-out findings, and the rule labeler's positive labels are compared with the truth. Minutes on one core.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn

from unixcxr.cleaning.facts import load_words
from unixcxr.cleaning.judge import DEIDENTIFICATION, report_text
from unixcxr.cleaning.rewrite import Rejection, RulesRewriter
from unixcxr.labels import label_report, label_sentences
from unixcxr.phantom import PhantomFinding, draw_findings, write_phantom_report
from unixcxr.phantom.finding import SIDES
from unixcxr.records import LABELS

START, END, UNKNOWN = 0, 1, 2
MAX_WORDS = 160
KINDS = tuple(SIDES)
DETAILS = ("left", "right", "bilateral", "upper", "mid", "lower", "small", "moderate", "large")


@dataclass(frozen=True)
class Case:
    """What the picture shows, as numbers, with the labels that are true and the report in both forms."""

    condition: np.ndarray
    truth: frozenset[str]
    raw: str
    clean: str | None


def condition_of(findings: tuple[PhantomFinding, ...]) -> np.ndarray:
    """Return a float32 vector: each kind, and each kind with its side, zone and size."""
    vector = np.zeros((len(KINDS), 1 + len(DETAILS)), np.float32)
    for finding in findings:
        row = vector[KINDS.index(finding.kind)]
        row[0] = 1
        for detail in (finding.side, finding.zone, finding.size):
            if detail:
                row[1 + DETAILS.index(detail)] = 1
    return vector.ravel()


PRIORS = ("Compared to the prior study of ___, ", "In comparison with the radiograph from ___, ", "Again, ")
TAILS = (
    ", unchanged from ___.",
    ", stable since the previous examination.",
    ", slightly improved.",
    ", new since ___.",
)
GONE = (
    "The previously seen {side} {what} has resolved.",
    "Interval removal of the {side} chest tube.",
    "{side} {what} on the prior film is no longer seen.",
)
ABSENT_BEFORE = ("pleural effusion", "pneumothorax", "consolidation")
ASIDES = (
    "Findings were discussed with Dr. ___ by telephone at 10:40 am on ___.",
    "Recommend CT of the chest for further evaluation.",
    "The study is limited by patient rotation.",
    "Single portable upright view was obtained.",
    "Clinical correlation is advised.",
)
INDICATIONS = (
    "___ year old man with shortness of breath, rule out pneumonia.",
    "History of pleural effusion, assess for interval change.",
    "Status post line placement, evaluate for pneumothorax.",
    "___F with fever and cough, question consolidation or edema.",
)


def make_raw(findings: str, impression: str, rng: np.random.Generator) -> str:
    """Return a report as hospitals write it: the same findings among what an image cannot show."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    sentences = [sentence + "." for sentence in findings.rstrip(".").split(". ")]
    for index, sentence in enumerate(sentences):
        luck = rng.random()
        if luck < 0.2:
            sentences[index] = pick(PRIORS) + sentence[0].lower() + sentence[1:]
        elif luck < 0.4 and any("positive" in part.labels.values() for part in label_sentences(sentence)):
            sentences[index] = sentence[:-1] + pick(TAILS)
    if rng.random() < 0.4:
        side = pick(("right", "left"))
        gone = pick(GONE).format(side=side, what=pick(ABSENT_BEFORE))
        sentences.insert(int(rng.integers(len(sentences) + 1)), gone[0].upper() + gone[1:])
    for chance in (0.6, 0.3):
        if rng.random() < chance:
            sentences.append(pick(ASIDES))
    if rng.random() < 0.5:
        impression = "Stable examination of ___. " + impression
    technique = "TECHNIQUE: Frontal radiograph of the chest.\n\nCOMPARISON: Chest radiograph from ___.\n\n"
    head = f"FINAL REPORT\n\nINDICATION: {pick(INDICATIONS)}\n\n{technique if rng.random() < 0.7 else ''}"
    return f"{head}FINDINGS: {' '.join(sentences)}\n\nIMPRESSION: {impression}"


def make_cases(seeds: range) -> list[Case]:
    """Draw one case per seed; a report that the rewriter rejects has no clean form."""
    cases, rewriter = [], RulesRewriter()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        findings = draw_findings(rng)
        report = write_phantom_report(findings, rng)
        raw = make_raw(report.findings_text, report.impression_text, rng)
        outcome = rewriter.rewrite(str(seed), raw)
        clean = None if isinstance(outcome, Rejection) else report_text(outcome.findings, outcome.impression)
        truth = frozenset(label for label, state in report.labels.items() if state == "positive")
        cases.append(Case(condition_of(findings), truth, raw, clean))
    return cases


def words_of(text: str) -> list[str]:
    """Split into words, marks and line ends."""
    for mark in ".,:;()\n":
        text = text.replace(mark, f" {mark} ")
    return [word for word in text.replace("\n", "<line>").split(" ") if word][: MAX_WORDS - 1]


class Writer(nn.Module):
    """A GRU that writes words; the condition enters its first state and every step."""

    def __init__(self, vocabulary: int, condition_width: int, width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 64)
        self.see = nn.Sequential(nn.Linear(condition_width, width), nn.GELU(), nn.Linear(width, width))
        self.gru = nn.GRU(64 + width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, condition: Tensor, words: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits (B, T, V) of the next words and the last state."""
        seen = self.see(condition)
        steps = seen[:, None].expand(-1, words.shape[1], -1)
        state = seen[None].contiguous() if state is None else state
        hidden, state = self.gru(torch.cat([self.embed(words), steps], -1), state)
        return self.head(hidden), state


def train(pairs: list[tuple[np.ndarray, str]], steps: int, seed: int) -> tuple[Writer, list[str], float]:
    """Train a writer on (condition, text) pairs; return it, its vocabulary and the mean loss of the last 50 steps."""
    split = [words_of(text) for _, text in pairs]
    vocabulary = ["<start>", "<end>", "<unknown>", *sorted({word for words in split for word in words})]
    index = {word: number for number, word in enumerate(vocabulary)}
    conditions = torch.tensor(np.stack([condition for condition, _ in pairs]))
    texts = torch.full((len(pairs), MAX_WORDS + 1), -100)
    for row, words in enumerate(split):
        ids = [START, *(index[word] for word in words), END]
        texts[row, : len(ids)] = torch.tensor(ids)
    torch.manual_seed(seed)
    model = Writer(len(vocabulary), conditions.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    generator, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        rows = torch.randint(len(pairs), (32,), generator=generator)
        longest = int((texts[rows] >= 0).sum(1).max())
        given, wanted = texts[rows, : longest - 1].clamp(min=0), texts[rows, 1:longest]
        logits, _ = model(conditions[rows], given)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return model, vocabulary, float(np.mean(losses[-50:]))


@torch.no_grad()
def write(model: Writer, vocabulary: list[str], conditions: Tensor) -> list[str]:
    """Write one report per condition, always the likeliest word."""
    words = torch.full((len(conditions), 1), START)
    state, ended, columns = None, torch.zeros(len(conditions), dtype=torch.bool), []
    while len(columns) < MAX_WORDS and not bool(ended.all()):
        logits, state = model(conditions, words, state)
        words = logits[:, -1:].argmax(-1)
        ended |= words[:, 0] == END
        columns.append(torch.where(ended, END, words[:, 0]))
    texts = []
    for row in torch.stack(columns, 1).tolist():
        text = " ".join(vocabulary[word] for word in row if word > UNKNOWN).replace("<line>", "\n")
        for mark in ".,:;)":
            text = text.replace(f" {mark}", mark)
        texts.append(text)
    return texts


def score(texts: list[str], cases: list[Case]) -> dict[str, object]:
    """Return micro and macro F1 of positive labels with counts per report, and what should not be written."""
    counts = np.zeros((len(cases), len(LABELS), 3), int)
    for row, (text, case) in enumerate(zip(texts, cases, strict=True)):
        said = {label for label, state in label_report(text).items() if state == "positive"}
        for column, label in enumerate(LABELS):
            hit, wrong, missed = (
                label in said & case.truth,
                label in said - case.truth,
                label in case.truth - said,
            )
            counts[row, column] = hit, wrong, missed
    present = counts.sum(0)
    macro = [f1(present[column]) for column in range(len(LABELS)) if present[column, [0, 2]].sum()]
    return {
        "micro_f1": f1(present.sum(0)),
        "macro_f1": float(np.mean(macro)),
        "refers to a prior": float(np.mean([bool(load_words().prior.search(text)) for text in texts])),
        "de-identification mark": float(np.mean([bool(DEIDENTIFICATION.search(text)) for text in texts])),
        "words a report": float(np.mean([len(words_of(text)) for text in texts])),
        "counts": counts.sum(1),
    }


def f1(counts: np.ndarray) -> float:
    """Return F1 of (hits, wrong, missed)."""
    hits, wrong, missed = (float(count) for count in counts)
    return 2 * hits / (2 * hits + wrong + missed) if hits else 0.0


def interval_of_gain(raw: list[np.ndarray], clean: list[np.ndarray]) -> tuple[float, float]:
    """Return the 95% interval of the gain in micro F1: 2,000 resamplings of held-out reports, all seeds together."""
    rng = np.random.default_rng(0)
    first, second = np.sum(raw, 0), np.sum(clean, 0)
    gains = []
    for _ in range(2000):
        rows = rng.integers(len(first), size=len(first))
        gains.append(f1(second[rows].sum(0)) - f1(first[rows].sum(0)))
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Run both arms for each seed, print the table and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("reports", 2000), ("held-out", 400), ("steps", 500), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    known = make_cases(range(options.reports))
    held_out = make_cases(range(10**6, 10**6 + options.held_out))
    conditions = torch.tensor(np.stack([case.condition for case in held_out]))
    arms: dict[str, list[tuple[np.ndarray, str]]] = {
        "raw": [(case.condition, case.raw) for case in known],
        "clean": [(case.condition, case.clean) for case in known if case.clean is not None],
    }
    results: dict[str, list[dict[str, object]]] = {arm: [] for arm in arms}
    counts: dict[str, list[np.ndarray]] = {arm: [] for arm in arms}
    samples = {}
    for seed in range(options.seeds):
        for arm, pairs in arms.items():
            model, vocabulary, loss = train(pairs, options.steps, seed)
            texts = write(model, vocabulary, conditions)
            row = score(texts, held_out)
            counts[arm].append(row.pop("counts"))  # type: ignore[arg-type]
            results[arm].append({"seed": seed, "loss a word": round(loss, 4), **row})
            samples[arm] = texts[0]
            print(arm, json.dumps(results[arm][-1]))
    gain = [c["micro_f1"] - r["micro_f1"] for r, c in zip(results["raw"], results["clean"], strict=True)]  # type: ignore[operator]
    summary = {
        "train reports": {arm: len(pairs) for arm, pairs in arms.items()},
        "held-out reports": len(held_out),
        "steps of 32 reports": options.steps,
        "gain in micro F1 by seed": [round(value, 4) for value in gain],
        "gain in micro F1, mean": round(float(np.mean(gain)), 4),
        "its 95% interval over reports": [
            round(v, 4) for v in interval_of_gain(counts["raw"], counts["clean"])
        ],
        "processor seconds": round(time.process_time() - began),
        "torch": torch.__version__,
    }
    print(json.dumps(summary, indent=1))
    target = options.out / f"{datetime.date.today()}_cpu_cleaning_ablation_{options.steps}.json"
    target.write_text(json.dumps({**summary, "runs": results, "samples": samples}, indent=1) + "\n")


if __name__ == "__main__":
    main()
