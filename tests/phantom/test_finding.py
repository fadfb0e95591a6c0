"""Findings refuse what means nothing, and the prior draws what may stand together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from unixcxr.errors import ConfigError
from unixcxr.phantom import PhantomFinding, draw_findings
from unixcxr.phantom.finding import SIDES, check_findings

NUM_DRAWS = 3000


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "rash"}, "rash"),
        ({"kind": "effusion", "size": "small"}, "side None"),
        ({"kind": "effusion", "side": "left"}, "size None"),
        ({"kind": "effusion", "side": "left", "size": "huge"}, "'huge'"),
        ({"kind": "effusion", "side": "left", "size": "small", "zone": "lower"}, "zone 'lower'"),
        ({"kind": "pneumothorax", "side": "bilateral", "size": "small"}, "'bilateral'"),
        ({"kind": "pneumothorax", "side": "left", "size": "moderate"}, "'moderate'"),
        ({"kind": "consolidation", "side": "left"}, "zone None"),
        ({"kind": "cardiomegaly", "side": "left", "size": "small"}, "side 'left'"),
        ({"kind": "endotracheal_tube", "size": "small"}, "size 'small'"),
    ],
)
def test_a_meaningless_finding_is_refused_by_name(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        PhantomFinding(**arguments)


@pytest.mark.parametrize(
    "findings",
    [
        [PhantomFinding("edema", size="small"), PhantomFinding("edema", size="large")],
        [
            PhantomFinding("effusion", "left", size="small"),
            PhantomFinding("effusion", "bilateral", size="large"),
        ],
        [PhantomFinding("pacemaker", "left"), PhantomFinding("pacemaker", "right")],
        [PhantomFinding("effusion", "left", size="large"), PhantomFinding("atelectasis", "bilateral")],
        [
            PhantomFinding("effusion", "right", size="large"),
            PhantomFinding("nodule", "right", "lower", "small"),
        ],
    ],
)
def test_findings_that_contradict_or_hide_each_other_are_refused(findings: list[PhantomFinding]) -> None:
    with pytest.raises(ConfigError):
        check_findings(findings)


def test_the_same_kind_in_two_places_is_allowed() -> None:
    pair = [
        PhantomFinding("consolidation", "left", "upper"),
        PhantomFinding("consolidation", "right", "upper"),
    ]
    assert check_findings(pair) == tuple(pair)


def test_the_prior_is_a_quarter_normal_with_no_kind_rare_and_no_conflicts() -> None:
    drawn = [draw_findings(np.random.default_rng(seed)) for seed in range(NUM_DRAWS)]
    for findings in drawn:
        assert check_findings(findings) == findings
        assert len(findings) <= 3
    normal = sum(not findings for findings in drawn) / NUM_DRAWS
    assert 0.24 < normal < 0.31
    share = Counter(finding.kind for findings in drawn for finding in findings)
    assert set(share) == set(SIDES)
    assert min(share.values()) > 0.05 * NUM_DRAWS
    sides = Counter(f.side for findings in drawn for f in findings if f.kind == "pneumothorax")
    assert 0.4 < sides["left"] / (sides["left"] + sides["right"]) < 0.6


def test_a_drawn_pneumothorax_shares_its_side_with_nothing_that_hides_it() -> None:
    for seed in range(NUM_DRAWS):
        findings = draw_findings(np.random.default_rng(seed))
        air = {f.side for f in findings if f.kind == "pneumothorax"}
        for finding in findings:
            if air and finding.kind in ("effusion", "consolidation", "nodule", "atelectasis"):
                assert not air & set(finding.sides)
