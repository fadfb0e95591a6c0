"""`unixcxr pull`: download a model from the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from unixcxr.cli import options
from unixcxr.cli.console import print_json, say


def pull(
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="A name that `unixcxr models` lists, or a hub id owner/name."),
    ] = "unix",
    json_lines: options.Json = False,
) -> int:
    """Download a model, by default the released UniX; an interrupted download goes on where it stopped.

    Sizes and hashes are checked against the hub's. Weights carry their own licences: see `unixcxr models`.

    [bold]Example:[/bold] unixcxr pull ZrH42/UniX
    """
    from unixcxr import hub

    folder = hub.pull(name, say)
    repo_id = hub.repo_id_of(name)
    if json_lines:
        size, licence = hub.size_of(folder), hub.licence_of(folder)
        print_json({"model": repo_id, "folder": str(folder), "bytes": size, "licence": licence})
    else:
        print(f"{folder}\nuse it with: --model {repo_id}")
    return 0
