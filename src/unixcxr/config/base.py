"""How every config class is read: strict keys, one-line errors that suggest the nearest name."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from unixcxr.errors import ConfigError

STRICT = ConfigDict(extra="forbid")
"""Pydantic settings of every config dataclass: a key that is not a field is an error."""

T = TypeVar("T")


def from_mapping(config_class: type[T], values: Mapping[str, Any], *, source: str = "config") -> T:
    """Build a config dataclass from plain values (a parsed JSON or TOML file).

    Raises ConfigError that names the setting, what was found, and the nearest known name.
    """
    try:
        return TypeAdapter(config_class).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            known = _field_names(config_class)
            nearest = difflib.get_close_matches(where.rsplit(".", 1)[-1], known, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ConfigError(f"{source}: unknown setting {where!r}{hint}") from None
        if first["type"] == "value_error":  # one of our own checks, which says what it found
            reason = str(first["ctx"]["error"])
        else:
            reason = f"{first['msg']} (found {first['input']!r})"
        setting = f"setting {where!r}: " if where else ""
        raise ConfigError(f"{source}: {setting}{reason}") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """Return the plain JSON-ready values of a config dataclass."""
    mapping: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return mapping


def _field_names(config_class: Any) -> list[str]:
    """Collect the field names of a config class and of the config classes inside it."""
    names: list[str] = []
    for hint in typing.get_type_hints(config_class).items():
        names.append(hint[0])
        for inner in (hint[1], *typing.get_args(hint[1])):
            if is_dataclass(inner):
                names.extend(f.name for f in fields(inner))
    return names
