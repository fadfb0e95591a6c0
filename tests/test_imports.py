"""Who may import whom: the table of the house, read off the source with `ast`, lazy imports included."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import unixcxr

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "unixcxr"

GROUND = {"errors", "atomic"}
"""Standard-library modules that every room but `flow` may use."""

OURS: dict[str, set[str]] = {
    "errors": set(),
    "atomic": {"errors"},
    "hub": GROUND | {"runtime"},
    "records": GROUND,
    "config": GROUND,
    "batch": GROUND,
    "runtime": GROUND,
    "labels": GROUND | {"records"},
    "phantom": GROUND | {"records", "labels"},
    "encoder": GROUND | {"config", "batch"},
    "cleaning": GROUND | {"records", "config", "labels"},
    "flow": set(),
    "model": GROUND | {"batch", "config", "runtime"},
    "data": GROUND | {"records", "batch", "config", "runtime", "cleaning"},
    "sampling": GROUND
    | {"records", "batch", "config", "runtime", "labels", "data", "cleaning", "model", "flow"},
    "train": GROUND | {"records", "batch", "config", "runtime", "labels", "data", "model", "flow", "encoder"},
    "eval": GROUND | {"records", "batch", "config", "runtime", "labels", "data", "encoder", "sampling"},
}
OURS["serve"] = set(OURS)
OURS["cli"] = set(OURS)

ONLY_MODULE = {
    ("data", "cleaning"): {"unixcxr.cleaning.dicom"},
    ("sampling", "cleaning"): {"unixcxr.cleaning.dicom"},
    ("train", "encoder"): {"unixcxr.encoder.align"},
    ("eval", "sampling"): {"unixcxr.sampling.engine"},
    ("cli", "serve"): {"unixcxr.serve.server"},
}
"""Where one room may use a single module of another."""

TENSORS = {"torch", "jaxtyping", "numpy"}
OTHERS: dict[str, set[str]] = {
    "errors": set(),
    "atomic": set(),
    "records": set(),
    "labels": set(),
    "config": {"pydantic"},
    "batch": TENSORS,
    "runtime": TENSORS | {"platformdirs"},
    "phantom": {"numpy", "PIL"},
    "cleaning": {"numpy", "PIL", "pydicom", "gdcm", "ray"},  # ray only when asked for
    "flow": {"torch", "jaxtyping"},
    "model": TENSORS | {"safetensors"},
    "data": TENSORS | {"PIL", "tokenizers"},
}
"""Third-party packages of the rooms that stay lean; rooms not named here may use any dependency."""


def room_of(module: str) -> str:
    """Return the room of `unixcxr.room...`, or of the lazily exported name `unixcxr.name`."""
    name = module.split(".")[1]
    home = unixcxr._HOMES.get(name)
    return home.split(".")[1] if home else name


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, and each `unixcxr.name` that it reaches through the root."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "unixcxr")
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "unixcxr"
        ):
            yield f"unixcxr.{node.attr}"


def sources() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def breaches(path: Path) -> list[str]:
    """Return what a file imports against the table."""
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    found = []
    for module in imported_modules(path):
        top = module.split(".")[0]
        if top == "unixcxr":
            if module == "unixcxr" or module == "unixcxr.__version__":
                continue
            other = room_of(module)
            only = ONLY_MODULE.get((room, other))
            if other != room and (other not in OURS[room] or (only is not None and module not in only)):
                found.append(f"{room} imports {module}")
        elif top not in sys.stdlib_module_names and top not in OTHERS.get(room, {top}):
            found.append(f"{room} imports {module}")
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_keep_to_the_table(path: Path) -> None:
    assert breaches(path) == []


def test_a_breach_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "labels").mkdir()
    path = tmp_path / "labels" / "rules.py"
    path.write_text("import re\ndef f():\n    import numpy\n    import unixcxr\n    unixcxr.load_engine()\n")
    assert breaches(path) == ["labels imports numpy", "labels imports unixcxr.load_engine"]


def test_nothing_imports_torchvision() -> None:
    files = [path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert [
        path for path in files if any(m.split(".")[0] == "torchvision" for m in imported_modules(path))
    ] == []
    for name in ("pyproject.toml", "constraints.txt"):
        assert "torchvision" not in (ROOT / name).read_text()


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pins = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {re.split(r"[^A-Za-z0-9-]", name)[0].lower() for name in wanted} <= pins


def test_no_training_config_names_the_judge() -> None:
    """Configs of cleaning may name a judge: there it is a language model that checks a rewritten report."""
    configs = [path for path in (ROOT / "configs").rglob("*.toml") if path.parent.name != "cleaning"]
    assert configs
    assert [path for path in configs if "judge" in path.read_text()] == []


def loaded_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after running `code`."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stderr.split("\n")}


HEAVY = {"torch", "numpy", "PIL", "pydicom", "safetensors", "huggingface_hub", "jaxtyping"}


def test_importing_the_package_is_light() -> None:
    assert not loaded_after("import unixcxr; dir(unixcxr)") & HEAVY


@pytest.mark.parametrize(
    "command", ["", "report", "draw", "demo", "serve", "clean", "convert", "pull", "models", "doctor"]
)
def test_help_is_light(command: str) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    assert not loaded_after(f"from unixcxr.cli.app import run\nassert run({arguments!r}) == 0") & HEAVY


def test_names_without_torch_need_no_torch() -> None:
    calls = ("label_report('No effusion.')", "clean_report('No effusion.')", "read_image")
    code = "import unixcxr\n" + "\n".join(f"unixcxr.{call}" for call in calls)
    assert "torch" not in loaded_after(code)
