"""The documents say what the commands do: a stale page is a failing test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from docs import make_cli_reference, make_readme
from PIL import Image

from unixcxr.cli.app import app
from unixcxr.cli.console import NOT_A_DEVICE
from unixcxr.phantom import sample_phantom

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


ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_first_screen_says_what_it_is_not_and_shows_the_two_commands() -> None:
    first_screen = "\n".join(README.splitlines()[:40])
    assert "not a medical device" in first_screen
    assert "docs/demo.png" in first_screen
    assert "make demo" in first_screen


@pytest.mark.parametrize("name", make_readme.COMMANDS)
def test_every_output_in_the_readme_was_pasted(name: str) -> None:
    block = re.search(rf"<!-- output: {name} -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert block is not None
    assert block[1].startswith(f"```console\n$ {make_readme.COMMANDS[name]}\n"), "python docs/make_readme.py"


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    Image.fromarray(sample_phantom(5, size_px=256).image).save(tmp_path / "chest.png")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    with Image.open(tmp_path / "effusion.png") as picture:
        assert picture.mode == "I;16"
