"""UniX CXR: one model that reads a chest radiograph into a report and draws one from a report.

Research software, not a medical device. The public names load lazily: importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load_engine": "unixcxr.sampling.engine",
    "load_model": "unixcxr.model.weights",
    "load_autoencoder": "unixcxr.model.weights",
    "load_tokenizer": "unixcxr.data.tokenizer",
    "label_report": "unixcxr.labels",
    "clean_report": "unixcxr.cleaning",
    "read_image": "unixcxr.cleaning",
    "UnixcxrError": "unixcxr.errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unixcxr' has no attribute {name!r}; public names: {', '.join(_HOMES)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
