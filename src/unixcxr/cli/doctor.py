"""`unixcxr doctor`: what this machine has, what works, and what stands in the way."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

import unixcxr
from unixcxr.cli import engines, options
from unixcxr.cli.console import NOT_A_DEVICE, print_json, print_table
from unixcxr.errors import UnixcxrError

NEEDED_BYTES = 1e9


@dataclass(frozen=True)
class Check:
    """One thing looked at: "ok" works, "info" is neither good nor bad, "bad" needs the advice."""

    name: str
    state: Literal["ok", "info", "bad"]
    found: str
    advice: str = ""


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Do not load the model on each device.")] = False,
    json_lines: options.Json = False,
) -> int:
    """Check versions, devices (with a real small forward on each), memory, disk, models and known traps.

    The exit code is 1 when something needs mending.

    [bold]Example:[/bold] unixcxr doctor --json
    """
    checks = list(_checks(quick))
    if json_lines:
        for check in checks:
            print_json(asdict(check))
    else:
        marks = {"ok": "ok", "info": "", "bad": "BAD"}
        print_table(
            ("", "what", "found"),
            [(marks[c.state], c.name, f"{c.found}; {c.advice}" if c.advice else c.found) for c in checks],
        )
        print(NOT_A_DEVICE)
    return 1 if any(check.state == "bad" for check in checks) else 0


def _checks(quick: bool) -> Iterator[Check]:
    yield from _versions()
    yield _machine()
    yield _torchvision()
    yield _gdcm()
    yield from _models_and_disk()
    yield from _devices(quick)


def _versions() -> Iterator[Check]:
    yield Check("unixcxr", "ok", f"{unixcxr.__version__} on Python {platform.python_version()}")
    found, missing = [], []
    wanted = [need for need in importlib.metadata.requires("unixcxr") or () if "extra ==" not in need]
    for package in (re.split(r"[^\w.-]", need)[0] for need in wanted):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    yield Check("packages", "ok", ", ".join(found))
    if missing:
        yield Check("packages", "bad", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")


def _machine() -> Check:
    import torch

    free = _available_memory()
    memory = f", {free / 1e9:.1f} GB memory free" if free else ""
    threads = f"{torch.get_num_threads()} torch threads on {os.cpu_count()} cores"
    return Check("machine", "info", f"{platform.system()} {platform.machine()}, {threads}{memory}")


def _available_memory() -> int | None:
    """Return the bytes that could be allocated now, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _torchvision() -> Check:
    """A torchvision that does not fit torch breaks every package that imports it, transformers among them."""
    try:
        version = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return Check("torchvision", "ok", "not installed, and not needed")
    run = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True)
    if run.returncode == 0:
        return Check("torchvision", "ok", f"{version}, fits torch")
    last = (run.stderr.strip().splitlines() or ["no message"])[-1]
    return Check("torchvision", "bad", f"{version} does not fit torch ({last})", "pip uninstall torchvision")


def _gdcm() -> Check:
    """A folder named `dl` in the working directory shadows a module that gdcm imports."""
    if Path("dl").exists():
        return Check(
            "DICOM", "bad", "a folder named dl is here and keeps gdcm from loading", "work elsewhere"
        )
    run = subprocess.run([sys.executable, "-c", "import gdcm, pydicom"], capture_output=True, text=True)
    if run.returncode == 0:
        return Check("DICOM", "ok", "pydicom and gdcm load")
    last = (run.stderr.strip().splitlines() or ["no message"])[-1]
    return Check("DICOM", "bad", last, "pip install --force-reinstall pydicom python-gdcm")


def _models_and_disk() -> Iterator[Check]:
    from unixcxr import hub
    from unixcxr.runtime import find_model_dir, models_dir

    for name, folder in [("embedded", find_model_dir("embedded")), *hub.pulled_models()]:
        problems = hub.damage(folder)
        advice = "reinstall unixcxr" if name == "embedded" else f"unixcxr pull {name}"
        if problems:
            yield Check(f"model {name}", "bad", "; ".join(problems), advice)
        else:
            yield Check(
                f"model {name}", "ok", f"{hub.size_of(folder) / 1e6:.1f} MB, {hub.licence_of(folder)}"
            )
    place = next(path for path in (models_dir(), *models_dir().parents) if path.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:.1f} GB free for models in {models_dir()}"
    if free < NEEDED_BYTES:
        yield Check("disk", "bad", found, "free some space or point UNIXCXR_MODELS elsewhere")
    else:
        yield Check("disk", "ok", found)


def _devices(quick: bool) -> Iterator[Check]:
    import torch

    from unixcxr.runtime import available_devices

    present = available_devices()
    for kind in ("cpu", "cuda", "mps"):
        if kind not in present:
            yield Check(f"device {kind}", "info", "not on this machine, not exercised")
            continue
        name = torch.cuda.get_device_name() if kind == "cuda" else kind
        if quick:
            yield Check(f"device {kind}", "info", f"{name} is there, not exercised")
        else:
            yield _exercise(kind, name)


def _exercise(device: str, name: str) -> Check:
    """Read two tokens and draw one step with the embedded model on a device."""
    from unixcxr.phantom import sample_phantom

    started = time.perf_counter()
    try:
        engine = engines.load("embedded", device, "float32")
        engine.write_report(sample_phantom(0, size_px=128).image, max_new_tokens=2)
        engine.draw_image("Normal chest.", num_steps=1)
    except (UnixcxrError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        return Check(f"device {device}", "bad", f"{name}: {reason}", "use another --device")
    seconds = time.perf_counter() - started
    return Check(f"device {device}", "ok", f"{name}: loaded, read 2 tokens, drew 1 step in {seconds:.1f} s")
