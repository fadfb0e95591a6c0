"""The exceptions that UniX CXR raises on purpose.

    UnixcxrError
    ├── InputError            the user's file, text or image cannot be used
    │   ├── ImageReadError    not a readable image (missing, truncated, not an image, a bomb)
    │   ├── DicomError        a DICOM object that is not one greyscale frame we can show
    │   └── PromptError       empty, or longer than the context
    ├── ModelError            a model directory or checkpoint cannot be used
    │   ├── WeightsError      keys unexpected, missing or mis-shaped, or a file cut short
    │   └── TokenizerError    the tokenizer loses characters or lacks a special token
    ├── ConfigError           a setting is unknown, impossible or without effect
    ├── RecordError           a manifest row or a prediction file cannot be used
    └── OutputError           the answer cannot be written (no space, no permission)

Every message is one line: what was found, what was expected, what to do.
"""

from __future__ import annotations


class UnixcxrError(Exception):
    """The root of all errors that this package raises on purpose."""


class InputError(UnixcxrError):
    """What the user gave cannot be used."""


class ImageReadError(InputError):
    """A file is not an image that can be read."""


class DicomError(InputError):
    """A DICOM object is not one greyscale frame that can be shown."""


class PromptError(InputError):
    """A prompt is empty or does not fit the context."""


class ModelError(UnixcxrError):
    """A model directory or checkpoint cannot be used."""


class WeightsError(ModelError):
    """Weights do not fit the architecture, or the file is damaged."""


class TokenizerError(ModelError):
    """A tokenizer loses characters or lacks a special token."""


class ConfigError(UnixcxrError):
    """A setting is unknown, impossible or has no effect."""


class RecordError(UnixcxrError):
    """A manifest or prediction file cannot be used."""


class OutputError(UnixcxrError):
    """An answer cannot be written."""
