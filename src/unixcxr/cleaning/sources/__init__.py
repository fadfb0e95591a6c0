"""Readers of what people have on disk. Each yields studies lazily and says why every image was taken or left."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unixcxr.cleaning.sources.found import Decision, Found, Source
from unixcxr.cleaning.sources.indiana import IndianaTablesSource, OpenISource, R2GenSource
from unixcxr.cleaning.sources.labelled import CheXpertPlusSource, CheXpertSource, Nih14Source, PadChestSource
from unixcxr.cleaning.sources.mimic import CheXGenBenchSource, LlavaRadSource, MimicSource
from unixcxr.cleaning.sources.plain import DicomFolderSource, TableSource
from unixcxr.config.cleaning import SourceConfig
from unixcxr.errors import ConfigError, InputError

__all__ = ["SOURCES", "Decision", "DetectedSource", "Found", "Source", "detect_source", "read_source"]

SOURCES: dict[str, Source] = {
    "llava-rad": LlavaRadSource(),
    "chexgenbench": CheXGenBenchSource(),
    "mimic-cxr-jpg": MimicSource(".jpg"),
    "mimic-cxr": MimicSource(".dcm"),
    "openi": OpenISource(),
    "iu-kaggle": IndianaTablesSource(),
    "r2gen": R2GenSource(),
    "chexpert-plus": CheXpertPlusSource(),
    "chexpert": CheXpertSource(),
    "padchest": PadChestSource(),
    "nih14": Nih14Source(),
    "table": TableSource(),
    "dicom": DicomFolderSource(),
}
"""By name, in the order in which a folder is asked: annotations before their data set, plain folders last."""

_LOOK_DEPTH = 3
_LOOK_FOLDERS = 200


class DetectedSource(NamedTuple):
    """Which layout a path has, and the folder or file where it begins."""

    kind: str
    root: Path


def detect_source(path: Path, kind: str = "auto") -> DetectedSource:
    """Recognise the layout of a path, or find where a known one begins; looks a few folders deep.

    Raises InputError when the path is missing or looks like nothing we know, ConfigError for an unknown kind.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    if kind != "auto" and kind not in SOURCES:
        nearest = difflib.get_close_matches(kind, SOURCES, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ConfigError(f"unknown source {kind!r}{hint} Known: {', '.join(SOURCES)}")
    kinds = list(SOURCES) if kind == "auto" else [kind]
    named, plain = (
        [k for k in kinds if k not in ("table", "dicom")],
        [k for k in kinds if k in ("table", "dicom")],
    )
    for candidates, folders in ((named, _folders(path)), (plain, iter([path]))):
        for folder in folders if candidates else ():
            for name in candidates:
                root = SOURCES[name].root(folder)
                if root is not None:
                    return DetectedSource(name, root)
    wanted = (
        "a known data set, a table of images and reports, or DICOM files"
        if kind == "auto"
        else f"the layout {kind!r}"
    )
    raise InputError(
        f"{path}: does not look like {wanted}; docs/data.md shows the layouts, --source forces one"
    )


def read_source(settings: SourceConfig) -> tuple[DetectedSource, Iterator[Found]]:
    """Recognise a source and return it with an iterator over its studies. Raises InputError or ConfigError."""
    detected = detect_source(Path(settings.path).expanduser(), settings.kind)
    return detected, SOURCES[detected.kind].read(settings, detected.root)


def _folders(path: Path) -> Iterator[Path]:
    """Yield a folder and those below it, breadth first, within a bounded look."""
    waiting = deque([(path, 0)])
    for _ in range(_LOOK_FOLDERS):
        if not waiting:
            return
        folder, depth = waiting.popleft()
        yield folder
        if depth < _LOOK_DEPTH and folder.is_dir():
            inner = sorted(
                entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
            )
            waiting.extend((entry, depth + 1) for entry in inner[:_LOOK_FOLDERS])
