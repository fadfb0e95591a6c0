"""The document of the full size quotes its results file, and the table there is the JSON's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import full_size

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "scaling.md"


def test_the_document_quotes_the_newest_results() -> None:
    newest = max((ROOT / "benchmarks" / "results").glob("*_full_size.json"))
    results = json.loads(newest.read_text())
    table = full_size.as_table(results)
    assert newest.with_suffix(".md").read_text() == table
    text = DOCUMENT.read_text()
    assert table in text
    assert f"`benchmarks/results/{newest.with_suffix('.md').name}`" in text
    assert results["bounds"] == full_size.check_bounds(results)
    assert all(bound["holds"] for bound in results["bounds"])
    assert (results["build"]["num_parameters"], results["build"]["num_tensors"]) == (3_216_835_600, 996)
    assert results["bfloat16"]["report"]["num_tokens"] == 32


@pytest.mark.parametrize("num_bytes", [2, 30, 64, 200])
def test_noise_goes_round(tmp_path: Path, num_bytes: int) -> None:
    """The pool is 32 bytes held twice; any offset gives any length."""
    pool = bytes(range(32))
    for offset in (0, 10, 31):
        with (tmp_path / "noise").open("wb") as file:
            full_size.write_noise(file, num_bytes, pool * 2, offset)
        expected = bytes((offset + i) % 32 for i in range(num_bytes))
        assert (tmp_path / "noise").read_bytes() == expected


def test_a_full_disk_is_said_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(full_size, "BYTES_NEEDED", 1 << 60)
    monkeypatch.setattr("sys.argv", ["full_size.py", "--folder", str(tmp_path)])
    assert full_size.main() == 2
    assert "GiB needed; name another --folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
