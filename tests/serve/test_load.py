"""The server under load with the embedded model: what benchmarks/serve_load.py does, shorter.

Only honesty and memory are held here; how much batching gains is the benchmark's to say.
"""

from __future__ import annotations

import pytest
from benchmarks import serve_load


@pytest.mark.long
def test_the_promises_hold_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = serve_load.measure("embedded", 30.0)
    print(serve_load.as_markdown(result))
    assert [promise for promise in result["broken"] if not promise.startswith("batching")] == []
    assert all(row["outcomes"].get("200", 0) > 0 for row in result["ladder"])


def test_memory_growth_is_told_from_the_second_quarter_on() -> None:
    memory = serve_load.Memory([])
    memory.samples = [10, 50, 100, 100, 100, 100, 104, 104]
    assert memory.growth() == pytest.approx(0.04)


def test_percentiles_of_few_values() -> None:
    assert serve_load._percentile([], 95) is None
    assert serve_load._percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert serve_load._percentile([1.0], 95) == 1.0
