"""The commands together, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

import unixcxr
from unixcxr.cli import clean, convert, demo, doctor, draw, models, pull, report, serve
from unixcxr.cli.console import NOT_A_DEVICE, print_error
from unixcxr.errors import ConfigError, ModelError, PromptError, UnixcxrError

app = typer.Typer(
    name="unixcxr",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=f"Read chest X-rays into reports and draw them from text. {NOT_A_DEVICE}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (report, draw, demo, serve, clean, convert, pull, models, doctor):
    name = module.__name__.rpartition(".")[2]
    app.command(name, epilog=NOT_A_DEVICE)(getattr(module, name))


def _show_version(wanted: bool) -> None:
    if wanted:
        print(unixcxr.__version__)
        raise typer.Exit


@app.callback()
def _global_options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show warnings and log lines.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        logging.captureWarnings(True)
    else:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; an error of ours becomes one line on standard error."""
    try:
        with warnings.catch_warnings():
            code = app(list(arguments) or ["--help"], prog_name="unixcxr", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except typer.TyperException as error:
        print_error(f"{error.format_message().rstrip('.')}; try `unixcxr --help`")
        return 2
    except UnixcxrError as error:
        print_error(str(error))
        return 2 if isinstance(error, ConfigError | ModelError | PromptError) else 1
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        _forget_output()
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _forget_output()
        print_error(
            "cannot write standard output: no space left on device; free some space or write elsewhere"
        )
        return 1
    except (KeyboardInterrupt, typer.Abort):
        print_error("stopped")
        return 130
    finally:
        logging.disable(logging.NOTSET)


def _forget_output() -> None:
    """Drop what standard output still holds, so that the interpreter does not fail on it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
