"""The corpus of the embedded model: texts and targets say what the pictures hold, and no more."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unixcxr.labels import label_report
from unixcxr.phantom import PhantomFinding, sample_phantom
from unixcxr.train.corpus import Row

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("embedded_corpus", ROOT / "scripts" / "embedded_corpus.py")
assert SPEC is not None
assert SPEC.loader is not None
corpus = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(corpus)


def positives(text: str) -> set[str]:
    return {label for label, state in label_report(text).items() if state == "positive"}


def test_phantom_rows_state_their_findings_in_every_wording() -> None:
    for row, image in corpus.phantoms(range(500, 506)):
        phantom = sample_phantom(int(row.id.split("-")[1]), 256)
        truth = {label for label, state in phantom.labels.items() if state == "positive"}
        assert np.array_equal(image, phantom.image)
        assert all(positives(report) == truth for report in row.reports)
        assert all("hantom" in prompt for prompt in row.prompts)
        assert all(positives(prompt) - {"No Finding"} == truth - {"No Finding"} for prompt in row.prompts)
        assert row.targets["normal"] == (not phantom.findings)


def test_targets_name_kinds_and_sides() -> None:
    findings = (
        PhantomFinding("effusion", "bilateral", None, "small"),
        PhantomFinding("nodule", "left", "upper", "small"),
    )
    present = {name for name, is_present in corpus.finding_targets(findings).items() if is_present}
    assert present == {"effusion", "effusion left", "effusion right", "nodule", "nodule left"}
    assert "edema left" not in corpus.finding_targets(())


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Four pictures of known sources, one of them of another licence tier."""
    entries = [
        ("a", "rsna_normal", ["Normal"], "A"),
        ("b", "paediatric", ["Viral pneumonia"], "A"),
        ("c", "hannover", ["COVID-19 (cohort)"], "A"),
        ("d", "ieee8023", ["Pneumonia"], "B"),
    ]
    Image.fromarray(sample_phantom(1, 64).image).save(tmp_path / "image.png")
    lines = [
        json.dumps(
            {"id": i, "source": s, "labels": n, "license_tier": t, "split": "train", "image": "image.png"}
        )
        for i, s, n, t in entries
    ]
    (tmp_path / "index.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_real_rows_say_what_the_label_says_and_no_more(pack: Path) -> None:
    rows: dict[str, Row] = {row.id: row for row, _ in corpus.real_pictures(pack, "train")}
    assert rows.keys() == {"a", "b", "c"}
    assert all(positives(text) == {"No Finding"} for text in rows["a"].reports)
    assert all(positives(text) == {"Pneumonia"} for text in (*rows["b"].reports, *rows["b"].prompts))
    assert all("viral" in text.lower() for text in rows["b"].reports)
    assert rows["b"].targets == {"pneumonia": True}
    assert not rows["c"].reports
    assert not rows["c"].prompts
