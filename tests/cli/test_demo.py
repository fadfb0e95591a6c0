"""`unixcxr demo`: one page that needs nothing but itself and says the truth beside the report."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unixcxr.cli.console import NOT_A_DEVICE
from unixcxr.cli.demo import PHANTOM_SEED, PROMPTS
from unixcxr.phantom import sample_phantom


class Page(HTMLParser):
    """What a browser would show and fetch."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def pictures(self) -> list[Image.Image]:
        prefix = "data:image/png;base64,"
        return [Image.open(io.BytesIO(base64.b64decode(link.removeprefix(prefix)))) for link in self.links]


@pytest.fixture
def page(unixcxr, engine, tmp_path: Path) -> Page:
    ran = unixcxr("demo")
    assert (ran.code, ran.out) == (0, f"{tmp_path / 'demo' / 'index.html'}\n")
    return Page((tmp_path / "demo" / "index.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    assert page.open == []
    assert len(page.links) == 1 + len(PROMPTS)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "$" not in page.text


def test_no_request_leaves_the_page(unixcxr, engine, tmp_path: Path) -> None:
    unixcxr("demo")
    source = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|['\"(]//|url\(|@import|<script|<link", source)


def test_the_phantom_and_its_truth_stand_beside_the_report(page: Page) -> None:
    phantom = sample_phantom(PHANTOM_SEED, size_px=256)
    assert np.array_equal(np.asarray(page.pictures[0]), phantom.image)
    assert " ".join(phantom.report.split()) in page.text
    assert "Large right pleural effusion. No pneumothorax." in page.text


def test_each_prompt_has_its_picture_seed_and_reading(page: Page, engine) -> None:
    for number, prompt in enumerate(PROMPTS):
        assert prompt in page.text
        assert f"seed {number}" in page.text
        assert np.asarray(page.pictures[1 + number]).max() == 100 + number
    assert page.text.count("Large right pleural effusion. No pneumothorax.") == 1 + len(PROMPTS)
    assert NOT_A_DEVICE in page.text


def test_a_picture_of_ones_own_is_read_without_a_truth(unixcxr, engine, films: Path, tmp_path: Path) -> None:
    ran = unixcxr("demo", "--image", films / "a.png", "--out", "mine", "--json")
    assert ran.code == 0
    row = json.loads(ran.out)
    assert len(row["drawings"]) == len(PROMPTS)
    page = Page(Path(row["page"]).read_text(encoding="utf-8"))
    assert "a.png" in page.text
    assert "truth of the phantom" not in page.text


def test_a_refused_picture_is_read_with_a_warning(unixcxr, engine, tmp_path: Path) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    assert unixcxr("demo", "--image", "black.png").code == 0
    page = Page((tmp_path / "demo" / "index.html").read_text(encoding="utf-8"))
    assert "The input gate would refuse this picture: blank picture" in page.text


def test_text_of_a_report_cannot_become_markup(unixcxr, engine, tmp_path: Path, monkeypatch) -> None:
    from unixcxr.cli import demo

    monkeypatch.setattr(demo, "PROMPTS", ("<script>alert(1)</script> & $notice",))
    assert unixcxr("demo").code == 0
    source = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in source
    assert "<script>alert(1)</script> & $notice" in Page(source).text
