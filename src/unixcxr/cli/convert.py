"""`unixcxr convert`: rewrite a model directory in another layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from unixcxr.cli import options
from unixcxr.cli.console import print_json


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A model folder, 'embedded' or a pulled hub id.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="A new folder.")],
    to: Annotated[
        Literal["native", "released"], typer.Option(help="The layout to write: native or released.")
    ] = "native",
    json_lines: options.Json = False,
) -> int:
    """Rewrite a model folder: a released UniX folder as a native one, or back; weights stay bit for bit.

    [bold]Example:[/bold] unixcxr convert ZrH42/UniX unix-native --to native
    """
    from unixcxr.hub import damage, repo_id_of, size_of
    from unixcxr.model import weights

    written = weights.convert(repo_id_of(source), target, to)
    if json_lines:
        print_json(
            {"folder": str(written), "layout": to, "bytes": size_of(written), "damage": damage(written)}
        )
    else:
        print(f"{written}: {to} layout, {size_of(written) / 1e6:.1f} MB")
    return 0
