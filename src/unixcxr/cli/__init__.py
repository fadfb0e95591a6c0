"""The command line: one file per command, heavy imports inside the commands.

Results go to standard output; progress, warnings and errors to standard error. Exit codes: 0 done, 1 some
inputs failed (each named), 2 wrong use, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line with this process's arguments and exit with its code.

    Waiting threads sleep instead of spinning: on two cores that other work keeps busy, one picture took 4.5 s so
    and 70 s with OpenMP's default, which must be set before torch loads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from unixcxr.cli.app import run

    sys.exit(run(sys.argv[1:]))
