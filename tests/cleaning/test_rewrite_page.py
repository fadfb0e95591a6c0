"""The dry run's page: what it shows, that it stands alone, and that text in it stays text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cleaning.llm_server import serve_chat
from cleaning.test_rewrite import FINDINGS, IMPRESSION, known, numbered, rewriter_of
from unixcxr.cleaning.rewrite_page import dry_run
from unixcxr.errors import OutputError

PRICES = {"m": {"input_per_million": 3.0, "output_per_million": 15.0}}


class Marks(HTMLParser):
    """Collect the text inside and outside of <del> and <ins>, and the tags seen."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: dict[str, list[str]] = {"del": [], "ins": []}
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in self.inside:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.inside[self.open[-1]].append(data)


def test_a_dry_run_shows_n_reports_and_saves_their_calls(tmp_path: Path) -> None:
    page_path = tmp_path / "dry.html"
    items = [(f"study-{n}", numbered(n)) for n in range(5)]
    with serve_chat(answers=known(5), script=["invent"]) as server:
        with rewriter_of(server, tmp_path, concurrency=1, prices=PRICES) as rewriter:
            traces = dry_run(rewriter, items, 3, page_path)
        page = page_path.read_text()
        assert [trace.study_id for trace in traces] == ["study-0", "study-1", "study-2"]
        assert re.findall(r"<h2>(.*?)</h2>", page) == ["study-0", "study-1", "study-2"]
        assert "3 of 3" in page
        assert "Try 1, refused by the rules: Pneumothorax is negative" in page
        # 4 rewritings and 3 judgements of 1,000 tokens in and 200 out: 7 * (0.003 + 0.003)
        assert "7,000 / 1,400" in page
        assert "<dd>0.0420</dd>" in page
        assert "<dd>14.00</dd>" in page
        with rewriter_of(server, tmp_path) as rewriter:
            list(rewriter.rewrite_many(items))
        assert len(server.requests) == 7 + 4


def test_marks_are_what_went_and_what_came(tmp_path: Path) -> None:
    page_path = tmp_path / "dry.html"
    with serve_chat(answers=known(1)) as server, rewriter_of(server, tmp_path) as rewriter:
        dry_run(rewriter, [("s", numbered(0))], 1, page_path)
    marks = Marks()
    marks.feed(page_path.read_text())
    gone, come = " ".join(marks.inside["del"]), " ".join(marks.inside["ins"])
    assert "unchanged" in gone
    assert "Dr. ___" in gone
    assert "pleural" not in gone
    assert set(come.split()) <= set((FINDINGS + " " + IMPRESSION).split())
    assert "There is a" in come


def test_the_page_stands_alone_and_keeps_text_as_text(tmp_path: Path) -> None:
    report = 'FINDINGS: <script>alert("x")</script> & no edema. ${model}'
    page_path = tmp_path / "dry.html"
    answers = {report: ("No <b>edema</b>.", "")}
    with serve_chat(answers=answers) as server, rewriter_of(server, tmp_path) as rewriter:
        dry_run(rewriter, [("<i>s</i>", report)], 1, page_path)
    page = page_path.read_text()
    marks = Marks()
    marks.feed(page)
    assert not {"script", "b", "i", "link", "img", "iframe"} & set(marks.tags)
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "${model}" in page


def test_a_page_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    with serve_chat(answers=known(1)) as server, rewriter_of(server, tmp_path) as rewriter:
        with pytest.raises(OutputError):
            dry_run(rewriter, [("s", numbered(0))], 1, tmp_path)
        assert not server.requests


def test_a_rejected_report_shows_why(tmp_path: Path) -> None:
    page_path = tmp_path / "dry.html"
    script = ["500"] * 2 + ["invent"] * 3
    with (
        serve_chat(answers=known(2), script=script) as server,
        rewriter_of(server, tmp_path, concurrency=1) as rewriter,
    ):
        dry_run(rewriter, [("a", numbered(0)), ("b", numbered(1))], 2, page_path)
    page = page_path.read_text()
    assert "0 of 2" in page
    assert "llm: server unavailable" in page
    assert "status 500" in page
    assert "llm: label changed" in page
    assert "Try 3, refused by the rules" in page
