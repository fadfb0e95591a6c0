"""From hospital files to clean image-report pairs; no torch.

Public names load lazily, so that cleaning text needs no DICOM reader.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "clean_report": "unixcxr.cleaning.rules",
    "CleanReport": "unixcxr.cleaning.rules",
    "read_image": "unixcxr.cleaning.dicom",
}

__all__ = ["CleanReport", "clean_report", "read_image"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"module 'unixcxr.cleaning' has no attribute {name!r}; public names: {', '.join(_HOMES)}"
        )
    return getattr(importlib.import_module(_HOMES[name]), name)
