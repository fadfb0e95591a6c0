"""The command line: one file per command, heavy imports inside the commands.

Results go to standard output; progress, warnings and errors to standard error. Exit codes: 0 done, 1 some
inputs failed (each named), 2 wrong use, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with this process's arguments and exit with its code."""
    from unixcxr.cli.app import run

    sys.exit(run(sys.argv[1:]))
