"""Does `unixcxr serve` outlive 10,000 damaged bodies and requests made from its own OpenAPI?

    python benchmarks/serve_fuzz.py [--out FOLDER]

Runs the long part of tests/serve/test_fuzz.py and writes FOLDER/<date>_serve_fuzz.json: how many bodies got which
status, how often the model's process had to start again, whether all checks held. Exits as pytest does.
"""

from __future__ import annotations

import argparse
import ast
import json
import platform
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "pytest", "-q", "-s", "-m", "long", "tests/serve/test_fuzz.py"]


def main() -> int:
    """Run, parse what the test prints, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    started = time.monotonic()
    run = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=False)
    told = re.search(r"answers (\{.*?\}), restarts (\d+)", run.stdout)
    answers = ast.literal_eval(told[1]) if told else {}
    result = {
        "command": f"pytest {' '.join(COMMAND[3:])}",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "seconds": round(time.monotonic() - started, 1),
        "bodies": sum(answers.values()),
        "answers_by_status": {str(status): count for status, count in sorted(answers.items())},
        "model_process_restarts": int(told[2]) if told else None,
        "outcome": "passed" if run.returncode == 0 else "failed",
    }
    print(json.dumps(result, indent=1))
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"{datetime.now():%Y-%m-%d}_serve_fuzz.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
