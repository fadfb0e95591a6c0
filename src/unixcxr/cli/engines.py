"""The one seam between the commands and the engine; tests put a fake in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unixcxr.cli.console import waiting

if TYPE_CHECKING:
    from unixcxr.sampling.engine import Engine


def load(model: str, device: str, dtype: str) -> Engine:
    """Load an engine by the values of --model, --device and --dtype."""
    with waiting(f"Loading {model}"):
        import unixcxr
        from unixcxr.hub import repo_id_of

        engine: Engine = unixcxr.load_engine(repo_id_of(model), device=device, dtype=dtype)
    return engine
