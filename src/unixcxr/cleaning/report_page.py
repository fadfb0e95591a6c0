"""`cleaning_report.html`: one page that stands alone, drawn from a `Funnel`. No script, no request to anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from PIL import Image

from unixcxr.atomic import write_text
from unixcxr.cleaning.funnel import BIN_WORDS, NUM_BINS, Funnel, Sample
from unixcxr.cleaning.work import THUMB_PX, Outcome
from unixcxr.records import LABELS, Change

STAGES = {
    "source": "left by the source",
    "report": "no usable report",
    "rewriting": "report refused",
    "picture": "picture unfit",
    "split": "split",
    "duplicate": "duplicate",
}
"""In the order of the funnel."""

SAMPLE_PX = 220
MOST_CROSSINGS = 50


def write_report(funnel: Funnel, path: Path) -> None:
    """Write the page."""
    template = resources.files("unixcxr.cleaning").joinpath("report.html").read_text(encoding="utf-8")
    parts = {
        "title": f"Cleaning report: {escape(funnel.source)}",
        "summary": _summary(funnel),
        "funnel": _funnel(funnel),
        "reasons": _reasons(funnel),
        "labels": _labels(funnel),
        "lengths": _lengths(funnel),
        "rules": _rules(funnel),
        "samples": "".join(map(_sample, funnel.samples)) or _nothing("No record was kept."),
        "twins": _twins(funnel),
        "rejected": _rejected_pictures(funnel),
        "refused": _refused_reports(funnel),
        "splits": _splits(funnel),
    }
    write_text(path, Template(template).substitute(parts))


def _summary(funnel: Funnel) -> str:
    share = funnel.num_kept / funnel.num_read if funnel.num_read else 0.0
    facts = [
        (f"{funnel.num_studies:,}", "studies"),
        (f"{funnel.num_read:,}", "images read"),
        (f"{funnel.num_kept:,}", f"kept ({share:.1%})"),
        (f"{funnel.num_read - funnel.num_kept:,}", "dropped, each with its reason"),
    ]
    if funnel.num_transient:
        facts.append((f"{funnel.num_transient:,}", "reports to try again: run the same command"))
    return "".join(f"<div><b>{number}</b><span>{escape(what)}</span></div>" for number, what in facts)


def _funnel(funnel: Funnel) -> str:
    """Draw what is left after each stage."""
    left = funnel.num_read
    steps = [("images read", left, 0)]
    for stage, title in STAGES.items():
        lost = sum(number for (where, _), number in funnel.reasons.items() if where == stage)
        left -= lost
        if lost:
            steps.append((f"after: {title}", left, lost))
    steps.append(("kept", funnel.num_kept, 0))
    rows = []
    for place, (title, number, lost) in enumerate(steps):
        y, width = 30 * place, 520 * number / max(1, funnel.num_read)
        kind = "kept" if title == "kept" else "bar"
        rows.append(
            f'<text x="210" y="{y + 19}" class="name">{escape(title)}</text>'
            f'<rect x="220" y="{y + 4}" width="{width:.1f}" height="22" class="{kind}"/>'
            f'<text x="{228 + width:.1f}" y="{y + 19}">{number:,}{f"  (−{lost:,})" if lost else ""}</text>'
        )
    return _svg(860, 30 * len(steps) + 4, "What is left after each stage", rows)


def _reasons(funnel: Funnel) -> str:
    order = list(STAGES)
    items = sorted(funnel.reasons.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0][1]))
    rows = [(STAGES[stage], reason, f"{number:,}") for (stage, reason), number in items]
    notes = [("kept, with a note", note, f"{number:,}") for note, number in funnel.notes.most_common()]
    return (
        _table(("stage", "reason", "images"), [*rows, *notes])
        if rows or notes
        else _nothing("Nothing was dropped.")
    )


def _labels(funnel: Funnel) -> str:
    """Draw how often each label is positive, uncertain and negative, in all reports read and in the clean ones."""
    if not funnel.num_reports:
        return _nothing("The source has no reports; its own labels were taken.")
    rows = []
    for place, label in enumerate(LABELS):
        y = 34 * place + 22
        rows.append(f'<text x="210" y="{y + 17}" class="name">{escape(label)}</text>')
        for offset, counts, total in (
            (0, funnel.labels_before, funnel.num_reports),
            (13, funnel.labels_after, funnel.num_clean_reports),
        ):
            x = 220.0
            for state in ("positive", "uncertain", "negative"):
                width = 480 * counts[label, state] / max(1, total)
                rows.append(
                    f'<rect x="{x:.1f}" y="{y + offset}" width="{width:.1f}" height="11" class="{state}">'
                    f"<title>{escape(label)} {state}: {counts[label, state]:,} of {total:,}</title></rect>"
                )
                x += width
            rows.append(
                f'<text x="{x + 6:.1f}" y="{y + offset + 10}" class="small">{_share(counts, label, total)}</text>'
            )
    legend = _legend(("positive", "uncertain", "negative"))
    note = f"upper bar: {funnel.num_reports:,} raw reports; lower: {funnel.num_clean_reports:,} clean ones"
    return (
        _svg(860, 34 * len(LABELS) + 26, "Labels before and after", [*legend, *rows])
        + f"<p>{escape(note)}</p>"
    )


def _share(counts: dict[tuple[str, str], int], label: str, total: int) -> str:
    return f"{counts[label, 'positive'] / max(1, total):.1%} positive" if total else "none"


def _lengths(funnel: Funnel) -> str:
    """Draw the lengths of raw and clean reports, in words."""
    if not funnel.num_reports:
        return _nothing("The source has no reports.")
    highest = max([*funnel.words_before.values(), *funnel.words_after.values(), 1])
    rows = _legend(("before", "after"))
    for place in range(NUM_BINS):
        x = 40 + 32 * place
        for offset, kind, counts in ((0, "before", funnel.words_before), (13, "after", funnel.words_after)):
            height = 180 * counts[place] / highest
            rows.append(
                f'<rect x="{x + offset}" y="{210 - height:.1f}" width="12" height="{height:.1f}" class="{kind}">'
                f"<title>{place * BIN_WORDS} words and more, {kind}: {counts[place]:,}</title></rect>"
            )
        if place % 4 == 0 or place == NUM_BINS - 1:
            more = "+" if place == NUM_BINS - 1 else ""
            rows.append(f'<text x="{x + 6}" y="226" class="small">{place * BIN_WORDS}{more}</text>')
    return _svg(860, 232, "Words in a report before and after", rows)


def _rules(funnel: Funnel) -> str:
    rows = [(rule, f"{number:,}") for rule, number in funnel.rules.most_common(40)]
    return _table(("rule", "changes"), rows) if rows else _nothing("No text was changed.")


def _sample(sample: Sample) -> str:
    record = sample.record
    labels = ", ".join(f"{label} {state}" for label, state in record.labels.items()) or "no label"
    clean = "".join(
        f"<p><b>{name}</b> {escape(text)}</p>"
        for name, text in (("FINDINGS", record.findings), ("IMPRESSION", record.impression))
        if text
    )
    picture = _image(sample.png, SAMPLE_PX) if sample.png else ""
    return (
        f"<article>{picture}<div><h3>raw</h3><pre>{mark_changes(record.raw_report, record.changes)}</pre></div>"
        f"<div><h3>clean</h3>{clean}<p class=small>{escape(labels)}</p></div>"
        f"<footer>{escape(record.id)} · {escape(record.view or 'view by content')} · {record.split}</footer></article>"
    )


def mark_changes(raw: str, changes: Iterable[Change]) -> str:
    """Return the raw text as HTML: what went is struck out, what came stands beside it, the rule in its title."""
    parts, end = [], 0
    for change in sorted(changes, key=lambda change: change.span):
        start, stop = change.span
        if start < end or stop > len(raw):  # an edit within an edit, or one of the picture
            continue
        parts.append(escape(raw[end:start]))
        title = escape(change.rule, quote=True)
        if stop > start:
            parts.append(f'<del title="{title}">{escape(raw[start:stop])}</del>')
        if change.after:
            parts.append(f'<ins title="{title}">{escape(change.after)}</ins>')
        end = stop
    return "".join([*parts, escape(raw[end:])])


def _twins(funnel: Funnel) -> str:
    if not funnel.num_twin_pairs:
        return _nothing("None found.")
    figures = [
        f"<figure>{_image(twin.kept_png, THUMB_PX)}{_image(twin.other_png, THUMB_PX)}<figcaption>"
        f"{escape(twin.kept_id)}<br>{escape(twin.other_id)}<br>{twin.distance} bits differ</figcaption></figure>"
        for twin in funnel.twins
    ]
    return f"<p>{funnel.num_twin_pairs:,} in all; the left one stays.</p><div class=thumbs>{''.join(figures)}</div>"


def _rejected_pictures(funnel: Funnel) -> str:
    groups = [
        f"<h3>{escape(reason)}</h3><div class=thumbs>{''.join(map(_thumb, outcomes))}</div>"
        for reason, outcomes in sorted(funnel.rejected_pictures.items())
    ]
    return "".join(groups) or _nothing("No picture was refused.")


def _thumb(outcome: Outcome) -> str:
    return (
        f'<figure><img alt="" src="data:image/jpeg;base64,{outcome.thumb}">'
        f"<figcaption>{escape(Path(outcome.image_path).name)}<br>{escape(outcome.detail)}</figcaption></figure>"
    )


def _refused_reports(funnel: Funnel) -> str:
    rows = [
        (reason, outcome.study_id, outcome.detail)
        for reason, outcomes in sorted(funnel.rejected_reports.items())
        for outcome in outcomes[:5]
    ]
    return _table(("reason", "study", "detail"), rows) if rows else _nothing("No report was refused.")


def _splits(funnel: Funnel) -> str:
    rows = [(split, f"{number:,}") for split, number in sorted(funnel.splits.items())]
    rows += [(f"taken: {why}", f"{number:,}") for why, number in funnel.views.most_common(20) if why]
    crossed = [(crossing.kind, crossing.what, " and ".join(crossing.splits)) for crossing in funnel.crossings]
    found = _table(("crosses", "what", "splits"), crossed[:MOST_CROSSINGS]) if crossed else ""
    verdict = (
        f"{len(crossed):,} crossings stand in the output."
        if crossed
        else "No patient and no duplicate crosses a split."
    )
    return _table(("split, and why taken", "images kept"), rows) + f"<p>{verdict}</p>{found}"


def _image(png: bytes, size_px: int) -> str:
    picture = Image.open(io.BytesIO(png))
    picture.thumbnail((size_px, size_px), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _legend(names: Sequence[str]) -> list[str]:
    return [
        f'<rect x="{220 + 110 * place}" y="2" width="11" height="11" class="{name}"/>'
        f'<text x="{236 + 110 * place}" y="12" class="small">{name}</text>'
        for place, name in enumerate(names)
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _nothing(text: str) -> str:
    return f"<p class=small>{escape(text)}</p>"
