"""A report's places: which tokens write which words, the confidence of a sentence, and text in pieces."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import tiny
from unixcxr.data.tokenizer import Tokenizer
from unixcxr.sampling.engine import Engine
from unixcxr.sampling.report import Finding, Pieces, Report
from unixcxr.sampling.text import TextSettings

TEXT = "Large right pleural effusion. No pneumothorax."
WORDS = ["Large", " right", " pleural", " effusion", ".", " No", " pneumothorax", "."]


def report(text: str = TEXT, words: list[str] | None = None, logprobs: list[float] | None = None) -> Report:
    words = WORDS if words is None else words
    ends = tuple(len("".join(words[: i + 1])) for i in range(len(words)))
    return Report(
        text=text,
        token_ids=tuple(range(len(words))),
        token_logprobs=tuple(logprobs or [0.0] * len(words)),
        token_ends=ends,
        prompt="",
        seed=0,
        image=np.zeros((2, 2), np.uint8),
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Large right pleural effusion.", range(5)),
        ("No pneumothorax.", range(5, 8)),
        ("right", range(1, 2)),
        ("ffus", range(3, 4)),
        (". No", range(4, 6)),
        (TEXT, range(8)),
    ],
)
def test_tokens_of_words(words: str, expected: range) -> None:
    start = TEXT.index(words)
    assert report().token_range(start, start + len(words)) == expected


def test_tokens_that_write_nothing_yet_belong_to_what_follows() -> None:
    """The first bytes of a character end where the text before them ends."""
    written = report("aéb", ["a", "", "é", "b", ""])
    assert written.token_range(0, 1) == range(1)
    assert written.token_range(1, 2) == range(1, 3)
    assert written.token_range(2, 3) == range(3, 4)
    assert written.token_range(0, 0) == range(0)
    assert report("", []).token_range(0, 5) == range(0)


def test_findings_with_the_confidence_of_their_sentence() -> None:
    logprobs = [-0.1, -0.2, -0.3, -0.4, -0.5, -1.0, -2.0, -3.0]
    findings = report(logprobs=logprobs).findings
    assert all(isinstance(finding, Finding) for finding in findings)
    effusion, pneumothorax = findings
    assert effusion[:3] == ("Pleural Effusion", "positive", "Large right pleural effusion.")
    assert effusion.confidence == pytest.approx(math.exp(-0.3))
    assert pneumothorax[:3] == ("Pneumothorax", "negative", "No pneumothorax.")
    assert pneumothorax.confidence == pytest.approx(math.exp(-2.0))
    assert report("", []).findings == ()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer(tiny.train_tokenizer(Path(tmp_path_factory.mktemp("tokenizer")) / "tokenizer.json"))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(0, 299), max_size=25),
        st.text(max_size=12).map(lambda text: text.encode()),
        st.text(alphabet=" \n\taé€😀", max_size=12).map(lambda text: text.encode()),
    )
)
def test_pieces_are_never_taken_back(tokenizer: Tokenizer, content: bytes | list[int]) -> None:
    """Any tokens, broken characters and spaces included, and any text."""
    token_ids = list(tokenizer.encode(content.decode())) if isinstance(content, bytes) else content
    pieces = Pieces(tokenizer)
    shown = [pieces.add(token_id) for token_id in token_ids]
    assert "".join([*shown, pieces.rest()]) == tokenizer.decode(token_ids).strip()


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=" aé€😀.\n", max_size=14), st.data())
def test_a_report_knows_where_each_token_ends(engine: Engine, text: str, data: st.DataObject) -> None:
    """Cutting the text at the ends gives back all of it; the tokens of any words write those words."""
    token_ids = engine.tokenizer.encode(text)
    image = np.zeros((2, 2), np.uint8)
    written = engine.finish_report(image, "", TextSettings(), 0, [(i, -1.0) for i in token_ids])
    assert written.text == text.strip()
    assert all(0 <= end <= len(written.text) for end in written.token_ends)
    if written.text:
        assert written.token_ends[-1] == len(written.text)
        start = data.draw(st.integers(0, len(written.text) - 1))
        end = data.draw(st.integers(start + 1, len(written.text)))
        words = written.text[start:end]
        tokens = written.token_range(start, end)
        assert words in engine.tokenizer.decode(token_ids[tokens.start : tokens.stop]) or not words.strip()
