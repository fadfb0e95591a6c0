"""Write docs/cli.md from the commands themselves: `make docs`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from unixcxr.cli.app import app

TARGET = Path(__file__).with_name("cli.md")

HEAD = """# Command line

Written by `docs/make_cli_reference.py` from the commands; do not edit by hand.

Results go to standard output; progress, notes and errors to standard error. An error is one line.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | some inputs failed (each is named), or the answer could not be written |
| 2 | wrong use: an unknown option, an impossible setting, a model that is not there |
| 130 | stopped by Ctrl-C |
"""


def render() -> str:
    """Return the whole reference as Markdown."""
    group: Any = typer.main.get_command(app)
    parts = [HEAD, f"\n{group.help}\n"]
    for name, command in group.commands.items():
        usage = " ".join(param.metavar for param in command.params if _is_argument(param))
        parts.append(f"\n## unixcxr {name}\n\n```\nunixcxr {name} [OPTIONS] {usage}".rstrip() + "\n```\n")
        parts.append(f"\n{_markdown(command.help)}\n\n| | | default |\n|---|---|---|\n")
        parts += [_row(param) for param in command.params]
    return "".join(parts)


def _markdown(text: str) -> str:
    """Turn rich's markup and hard line breaks into Markdown paragraphs; an example becomes a code block."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    lines = []
    for paragraph in paragraphs:
        example = re.fullmatch(r"\[bold\]Example:\[/bold\] (.*)", paragraph)
        lines.append(f"```\n{example[1]}\n```" if example else paragraph)
    return "\n\n".join(lines)


def _is_argument(param: Any) -> bool:
    return bool(param.param_type_name == "argument")


def _row(param: Any) -> str:
    names = param.metavar if _is_argument(param) else ", ".join(param.opts)
    shown = param.default is not None and param.default is not False and not param.required
    default = f"`{param.default}`" if shown else ""
    return f"| `{names.replace('|', chr(92) + '|')}` | {param.help or ''} | {default} |\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
