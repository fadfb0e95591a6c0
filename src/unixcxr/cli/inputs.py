"""From what was typed to image files: files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom"})


@dataclass(frozen=True)
class ImageFile:
    """An image to read, and the relative name under which its result is kept."""

    path: Path
    name: Path


def find_images(arguments: Sequence[str]) -> tuple[list[ImageFile], list[tuple[str, str]]]:
    """Return the images that the arguments mean, and (argument, reason) for those that mean none.

    A folder means every image below it, by suffix or, without one, by its DICOM header. A file is taken as it
    is, so that one that is no image fails with its own reason. Each image is taken once.
    """
    files: dict[Path, ImageFile] = {}
    failures: list[tuple[str, str]] = []
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            found = [ImageFile(inner, inner.relative_to(path)) for inner in _images_below(path)]
            reason = "a folder without images; expected PNG, JPEG, TIFF or DICOM files in it"
        elif path.exists() or not glob.has_magic(argument):
            found, reason = [ImageFile(path, Path(path.name))], ""
        else:
            matches = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207  (absolute patterns)
            found = [ImageFile(match, Path(match.name)) for match in matches if match.is_file()]
            reason = "a pattern that matches no file"
        if not found:
            failures.append((argument, reason))
        for file in found:
            files.setdefault(file.path.absolute(), file)
    return _distinct_names(files.values()), failures


def _images_below(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and (path.suffix.lower() in IMAGE_SUFFIXES or _is_bare_dicom(path)):
            found.append(path)
    return found


def _is_bare_dicom(path: Path) -> bool:
    """Return whether a file without a suffix carries the DICOM mark (PS3.10 7.1: "DICM" at byte 128)."""
    if path.suffix:
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _distinct_names(files: Iterable[ImageFile]) -> list[ImageFile]:
    """Number the second and later of equal names, suffixes apart, so that results do not overwrite each other."""
    counts: dict[Path, int] = {}
    named = []
    for file in files:
        stem = file.name.with_suffix("")
        counts[stem] = counts.get(stem, 0) + 1
        name = stem if counts[stem] == 1 else stem.with_name(f"{stem.name}-{counts[stem]}")
        named.append(ImageFile(file.path, name))
    return named
