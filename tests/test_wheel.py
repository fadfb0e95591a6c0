"""The wheel holds all that the package needs, and works from an empty folder in a new environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "unixcxr"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the source, so that nothing is left in the tree and nothing old gets in."""
    source = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    target = tmp_path_factory.mktemp("dist")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    (built,) = target.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("unixcxr/")}
        licences = [name for name in archive.namelist() if name.endswith(("/LICENSE", "/NOTICE"))]
    expected = {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected
    assert len(licences) == 2


def test_the_embedded_model_is_inside_and_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {item.filename: item.file_size for item in archive.infolist() if "/assets/" in item.filename}
    embedded = {name.rpartition("/")[2] for name in sizes if "/assets/embedded/" in name}
    assert embedded >= {
        "config.json",
        "model.safetensors",
        "autoencoder.safetensors",
        "tokenizer.json",
        "README.md",
    }
    assert sum(sizes.values()) <= 40e6


def test_a_new_environment_runs_the_demo_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Only unixcxr itself is installed anew; its dependencies are seen through a path file, not loaded again."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    paths = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    site_packages = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = Path(sysconfig.get_path("scripts", "venv", vars=paths)) / "python"
    pip("--python", str(python), "install", "--no-deps", str(wheel))
    empty = tmp_path / "empty"
    empty.mkdir()

    where = subprocess.run(
        [python, "-c", "import unixcxr; print(unixcxr.__file__)"],
        cwd=empty,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "venv")
    demo = subprocess.run(
        [python.with_name("unixcxr"), "demo"], cwd=empty, capture_output=True, text=True, timeout=300
    )
    assert demo.returncode == 0, demo.stderr
    assert demo.stdout == f"{empty / 'demo' / 'index.html'}\n"
    assert (empty / "demo" / "index.html").stat().st_size > 50_000
