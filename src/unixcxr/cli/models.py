"""`unixcxr models`: which models there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unixcxr.cli import options
from unixcxr.cli.console import print_json, print_table


def models(json_lines: options.Json = False) -> int:
    """List the embedded model, the pulled ones and those that `unixcxr pull` knows.

    [bold]Example:[/bold] unixcxr models
    """
    rows = list_models()
    if json_lines:
        for row in rows:
            print_json(row)
        return 0
    cells = [
        (
            row["model"],
            row["state"],
            f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] else "-",
            row["licence"],
            row["about"],
        )
        for row in rows
    ]
    print_table(("model", "state", "size", "licence", "about"), cells)
    return 0


def list_models() -> list[dict[str, Any]]:
    """Return one row a model: name, state, folder, size, licence, what it is."""
    from unixcxr import hub
    from unixcxr.runtime import find_model_dir

    embedded = find_model_dir("embedded")
    rows = [_row("embedded", embedded, "the small model that comes with the package")]
    pulled = dict(hub.pulled_models())
    for known in hub.KNOWN:
        if known.repo_id in pulled:
            rows.append(_row(known.repo_id, pulled.pop(known.repo_id), known.about, known.source))
        else:
            rows.append(
                {
                    "model": known.repo_id,
                    "state": f"unixcxr pull {known.name}",
                    "folder": None,
                    "bytes": None,
                    "licence": known.licence,
                    "about": known.about,
                    "source": known.source,
                }
            )
    rows += [_row(repo_id, folder, "pulled from the hub") for repo_id, folder in pulled.items()]
    return rows


def _row(name: str, folder: Path, about: str, source: str = "") -> dict[str, Any]:
    from unixcxr import hub

    problems = hub.damage(folder)
    return {
        "model": name,
        "state": "; ".join(problems) or "ready",
        "folder": str(folder),
        "bytes": hub.size_of(folder),
        "licence": hub.licence_of(folder),
        "about": about,
        "source": source,
    }
