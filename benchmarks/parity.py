"""Compare every quantity of a golden directory with what this package computes from the same checkpoint.

    python benchmarks/parity.py --golden DIR [--json]

DIR holds `ckpt/` (a checkpoint in the released layout), tensors in `*.safetensors`, and `meta.json`; any sizes,
grouped-query attention and non-square latents included. Prints quantity, largest difference and bound; exits
with 1 when any bound is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from parity_parts import flow, inputs, reading, tables, training
from parity_parts.golden import Golden, Row

PARTS: dict[str, Callable[[Golden], Iterator[Row]]] = {
    "tables": tables.rows,
    "inputs": inputs.rows,
    "reading": reading.rows,
    "drawing": flow.rows,
    "training": training.rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", type=Path, required=True, help="the golden directory")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    golden = Golden(arguments.golden)
    rows = [(part, row) for part, make in PARTS.items() for row in make(golden)]
    failed = [row for _, row in rows if not row.holds]
    if arguments.json:
        for part, row in rows:
            print(json.dumps({"part": part, **row.as_dict()}))
    else:
        table = Table("part", "quantity", "largest difference", "bound", "holds")
        for part, row in rows:
            table.add_row(
                part, row.name, f"{row.difference:.3g}", f"{row.bound:.3g}", "yes" if row.holds else "NO"
            )
        Console(width=120).print(table)
    unread = golden.unread()
    print(
        f"{len(rows)} quantities, {len(failed)} beyond their bound; tensors not compared: {unread}",
        file=sys.stderr,
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
