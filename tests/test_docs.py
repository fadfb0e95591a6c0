"""The documents say what the commands do: a stale page is a failing test."""

from __future__ import annotations

import typer
from docs import make_cli_reference

from unixcxr.cli.app import app
from unixcxr.cli.console import NOT_A_DEVICE

COMMANDS = typer.main.get_command(app).commands


def test_the_command_reference_is_fresh() -> None:
    assert make_cli_reference.TARGET.read_text(encoding="utf-8") == make_cli_reference.render(), (
        "run `make docs`"
    )


def test_every_command_shows_an_example_and_what_it_is_not() -> None:
    assert set(COMMANDS) >= {"report", "draw", "demo", "convert", "pull", "models", "doctor"}
    for name, command in COMMANDS.items():
        assert f"[bold]Example:[/bold] unixcxr {name}" in command.help
        assert command.epilog == NOT_A_DEVICE
        assert "--json" in {option for param in command.params for option in param.opts}
