"""`unixcxr clean` with a language model: dry run, the full run from its answers, notice, provenance, a server away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cleaning.llm_server import ChatServer, serve_chat
from cleaning.test_rewrite import FINDINGS, known, numbered
from unixcxr.cleaning.llm_prompts import load_prompts
from unixcxr.cli.app import run

COUNT = 4


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a table of four reports beside their pictures."""
    folder = tmp_path / "source"
    folder.mkdir()
    rows = ["image,report,patient_id"]
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 255, (200, 160), dtype=np.uint8)
        Image.fromarray(pixels).resize((320, 400)).save(folder / f"{number}.png")
        quoted = numbered(number).replace('"', '""')
        rows.append(f'{number}.png,"{quoted}",p{number}')
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


def clean_with(server: ChatServer, source: Path, out: Path, *more: str) -> int:
    settings = {
        "source.kind": "table",
        "rewrite.kind": "llm",
        "rewrite.llm.base_url": server.base_url,
        "rewrite.llm.model": "m",
        "quality.not_frontal": "off",
        "quality.inverted": "off",
        "duplicates.action": "off",
    }
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return run(["clean", str(source), "--out", str(out), "--workers", "1", *overrides, *more])


def test_a_dry_run_and_then_the_rest(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIXCXR_LLM_API_KEY", "secret-key")
    out = tmp_path / "out"
    with serve_chat(answers=known(COUNT)) as server:
        assert clean_with(server, source, out, "--dry-run", "3", "--json") == 0
        shown: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert [row["rejected"] for row in shown["reports"]] == [None] * 3
        assert Path(shown["page"]) == out / "dry_run.html"
        assert "3 of 3" in (out / "dry_run.html").read_text()
        assert not (out / "manifest.jsonl").exists()
        assert len(server.requests) == 6
        prices = [
            f"rewrite.llm.prices.m.{name}_per_million={price}"
            for name, price in (("input", 3), ("output", 15))
        ]
        assert clean_with(server, source, out, *(part for price in prices for part in ("--set", price))) == 0
        assert len(server.requests) == 2 * COUNT
        # 8 answers of 1,000 tokens in and 200 out: 8 * (0.003 + 0.003)
        assert "language model: 8 answers, 8,000 tokens in, 1,600 out, cost 0.0480" in capsys.readouterr().err
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret-key"}
        assert clean_with(server, source, out) == 0
        assert len(server.requests) == 2 * COUNT
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == COUNT
    assert {row["findings"] for row in rows} == {FINDINGS}
    rules = {change["rule"] for row in rows for change in row["changes"]}
    assert rules == {f"llm m prompts {load_prompts().name}"}
    files = [path for path in out.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret-key" in path.read_bytes()]


def test_a_server_away_is_asked_again_by_the_next_run(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = ("--set", "rewrite.llm.max_tries=1", "--set", "rewrite.llm.concurrency=1")
    with serve_chat(answers=known(COUNT), script=["500", "500"]) as server:
        assert clean_with(server, source, out, *more) == 1
        dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
        assert len(dropped) == 2
        assert all("server unavailable" in json.dumps(row) for row in dropped)
        assert clean_with(server, source, out, *more) == 0
        assert len((out / "manifest.jsonl").read_text().splitlines()) == COUNT


def test_a_dry_run_by_rules_has_nothing_to_show(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["clean", str(source), "--out", str(tmp_path / "out"), "--dry-run", "1"]
    assert run(arguments) == 2
    assert 'rewrite.kind = "llm"' in capsys.readouterr().err


def test_a_server_elsewhere_is_named_before_the_first_call(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address is of the documentation range (RFC 5737), so nothing answers; one try of a tenth of a second."""
    more = ["timeout_s=0.1", "max_tries=1", "give_up_after=1", "base_url=http://192.0.2.1:9/v1", "model=m"]
    sets = [part for setting in more for part in ("--set", f"rewrite.llm.{setting}")]
    out = str(tmp_path / "out")
    code = run(["clean", str(source), "--out", out, "--dry-run", "1", "--set", "rewrite.kind=llm", *sets])
    first, *_ = capsys.readouterr().err.splitlines()
    assert code == 1
    assert first.startswith("report text is sent to 192.0.2.1, which is not this machine, without encryption")
