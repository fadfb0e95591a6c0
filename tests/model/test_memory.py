"""Memory while loading: weights land once, and weights that are already right stay in the file's pages.

Measured in a process of its own as the largest RssAnon seen while loading, minus that before it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model import released

STATUS = Path("/proc/self/status")
SIZES = replace(released.TINY, w=256, q=256, kv=256, head=64, mlp=512, vocab=80_000)
PROGRAM = """
import json, sys, threading, time
import torch
from unixcxr.model.weights import load_model

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))

directory, warm_up = sys.argv[1:]
load_model(warm_up)  # code and thread pools that any load brings with it
for dtype in (torch.bfloat16, torch.float32):
    before = anonymous()
    seen, done = [before], threading.Event()

    def watch():
        while not done.is_set():
            seen.append(anonymous())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    model = load_model(directory, dtype=dtype)
    done.set()
    watcher.join()
    seen.append(anonymous())
    weights = sum(p.nbytes for p in model.parameters())
    print(json.dumps({"weights": weights, "grown": max(seen) - before, "samples": len(seen)}))
    del model
"""


@pytest.mark.skipif(
    not STATUS.exists() or "RssAnon" not in STATUS.read_text(), reason="needs Linux's RssAnon"
)
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_loading_holds_no_second_copy(tmp_path: Path, form: str) -> None:
    """A bfloat16 file of some 100 MB: loaded as it is it stays in the file's pages, as float32 it lands once."""
    small = released.write(tmp_path / "small", released.draw(released.released_shapes(released.TINY)))
    tensors = {
        name: torch.full(shape, 0.01, dtype=torch.bfloat16)
        for name, shape in released.released_shapes(SIZES).items()
    }
    large = released.write(tmp_path / "large", tensors)
    if form == "bin":
        (large / "model.safetensors").unlink()
        torch.save(tensors, large / "pytorch_model.bin")
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(large), str(small)], capture_output=True, text=True, check=True
    )
    mapped, converted = map(json.loads, run.stdout.splitlines())
    assert mapped["weights"] > 80e6
    assert mapped["grown"] < 0.05 * mapped["weights"]
    assert converted["samples"] > 3
    # no less than the weights, or the measurement itself does not work
    assert 0.9 < converted["grown"] / converted["weights"] < 1.15
