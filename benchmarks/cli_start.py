"""How long until the command line answers?

    python benchmarks/cli_start.py [--runs 10]

Times `unixcxr --help`, `unixcxr report --help` and `unixcxr models --json` as whole processes, the bytecode
cache warm. Prints a table and writes benchmarks/results/<date>_<machine>_cli_start.json. Bound: help in 0.3 s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import unixcxr

RESULTS = Path(__file__).parent / "results"
COMMANDS = (["--help"], ["report", "--help"], ["models", "--json"])
PROGRAM = "from unixcxr.cli import main; main()"


def seconds_of(arguments: list[str]) -> float:
    """Return the wall time of one process, interpreter start included."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> int:
    """Measure, print, write; return 1 when help is slower than its bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    rows = {}
    for arguments in COMMANDS:
        seconds_of(arguments)
        taken = [seconds_of(arguments) for _ in range(runs)]
        rows[" ".join(arguments)] = {"median_s": statistics.median(taken), "min_s": min(taken), "n": runs}
        print(
            f"unixcxr {' '.join(arguments):16s} median {statistics.median(taken):.3f} s  min {min(taken):.3f} s"
        )
    machine = f"{platform.machine()}-{os.cpu_count()}cpu"
    report = {
        "unixcxr": unixcxr.__version__,
        "python": platform.python_version(),
        "machine": machine,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{date.today().isoformat()}_{machine}_cli_start.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if rows["--help"]["median_s"] > 0.3 else 0


if __name__ == "__main__":
    sys.exit(main())
