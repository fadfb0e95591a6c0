"""How hospital files become training data: where they lie, what is refused, how they are split and written."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from unixcxr.config.base import STRICT, from_mapping
from unixcxr.errors import ConfigError

Count = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]

SourceKind = Literal[
    "auto",
    "mimic-cxr",
    "mimic-cxr-jpg",
    "llava-rad",
    "chexgenbench",
    "openi",
    "iu-kaggle",
    "r2gen",
    "chexpert",
    "chexpert-plus",
    "padchest",
    "nih14",
    "table",
    "dicom",
]


@dataclass(frozen=True, config=STRICT)
class SourceConfig:
    """Where the files lie and how to read them.

    `images` and `reports` name folders that lie apart from `path`; empty means below it. `columns` maps what we
    need (image, report, findings, impression, patient, study, view, split) to the names in a table of one's own.
    `unknown_view` says what happens to an image whose metadata do not tell its view: let its content decide,
    take it, or drop it. `text` chooses, for PadChest, English sentences made from its labels or its Spanish report.
    """

    path: str
    kind: SourceKind = "auto"
    images: str = ""
    reports: str = ""
    columns: Mapping[str, str] = Field(default_factory=dict)
    unknown_view: Literal["content", "take", "drop"] = "content"
    text: Literal["labels", "report"] = "labels"
    license: str = ""


@dataclass(frozen=True, config=STRICT)
class QualityConfig:
    """What makes a picture unfit. The defaults were set on real radiographs; docs/data.md has the numbers.

    A check set to "off" is not made; "mark" keeps the picture with a note; "mend" turns an inverted picture back.
    """

    min_side_px: NotNegative = 128
    max_aspect: Positive = 2.0
    min_spread: NotNegative = 10
    max_white: Fraction = 0.3
    max_black: Fraction = 0.6
    inverted: Literal["drop", "mend", "mark", "off"] = "drop"
    not_frontal: Literal["drop", "mark", "off"] = "drop"
    burned_in_text: Literal["drop", "mark", "off"] = "mark"


@dataclass(frozen=True, config=STRICT)
class DuplicateConfig:
    """When two pictures are the same: their 256-bit hashes differ in at most `max_distance` bits.

    Of each group the one in the strictest split (test, validate, train) and first in order stays.
    """

    action: Literal["drop", "mark", "off"] = "drop"
    max_distance: Annotated[int, Field(ge=0, le=32)] = 8


@dataclass(frozen=True, config=STRICT)
class SplitConfig:
    """How patients are divided where no official split exists, or where it is not wanted.

    The share of a patient depends on `salt` and the patient alone, so it never changes when data are added.
    """

    official: bool = True
    validate_share: Fraction = 0.02
    test_share: Fraction = 0.02
    salt: str = "unixcxr"

    @model_validator(mode="after")
    def _check(self) -> SplitConfig:
        if self.validate_share + self.test_share >= 1:
            raise ValueError("validate_share and test_share leave nothing to train on; lower them")
        return self


@dataclass(frozen=True, config=STRICT)
class RewriteConfig:
    """Who rewrites the reports: the rules, or a language model set up in `llm` (docs/rewriting.md)."""

    kind: Literal["rules", "llm"] = "rules"
    llm: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> RewriteConfig:
        if self.llm and self.kind != "llm":
            raise ValueError(
                'the table "llm" has no effect with kind = "rules"; set kind = "llm" or leave it out'
            )
        return self


@dataclass(frozen=True, config=STRICT)
class OutputConfig:
    """What is written. `size_px` bounds the shorter side of the pictures in the shards; 0 keeps the full size."""

    size_px: NotNegative = 512
    shard_size: Count = 1000
    labels: Literal["rules", "source"] = "rules"
    num_samples: NotNegative = 12


@dataclass(frozen=True, config=STRICT)
class CleaningConfig:
    """One cleaning run."""

    source: SourceConfig
    quality: QualityConfig = QualityConfig()
    duplicates: DuplicateConfig = DuplicateConfig()
    splits: SplitConfig = SplitConfig()
    rewrite: RewriteConfig = RewriteConfig()
    output: OutputConfig = OutputConfig()


def read_cleaning_config(source: str, overrides: Sequence[str] = ()) -> CleaningConfig:
    """Read a TOML file, or take the path of a source as it is, and apply overrides such as "splits.salt=abc".

    Raises ConfigError for a file that is not TOML, an unknown setting (naming the nearest) or a bad value.
    """
    values: dict[str, Any] = {}
    if source.lower().endswith(".toml"):
        try:
            values = tomllib.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{source}: cannot be read ({error}); give a TOML file or a folder") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{source}: not TOML ({error})") from None
    else:
        values["source"] = {"path": source}
    for override in overrides:
        _apply(values, override)
    return from_mapping(CleaningConfig, values, source=source)


def _apply(values: dict[str, Any], override: str) -> None:
    """Put the value of "section.field=value" in its place; the value is read as TOML, else as plain text."""
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise ConfigError(f"--set {override!r} is not of the form section.field=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = values
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override!r}: {key!r} is a value, not a section")
    table[keys[-1]] = value
