"""The HTTP reference, made from the OpenAPI: a page without scripts for `/docs`, Markdown for docs/api.md."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from typing import Any

OpenApi = dict[str, Any]


def as_markdown(api: OpenApi) -> str:
    """Return the reference of all routes, and the shapes of what they take and give."""
    return "\n".join(_lines(api)) + "\n"


def as_html(api: OpenApi) -> str:
    """Return the same as one page that loads nothing."""
    parts: list[str] = []
    is_code = False
    for line in _lines(api):
        text = html.escape(line)
        if line.startswith("```"):
            is_code = not is_code
            parts.append("<pre>" if is_code else "</pre>")
        elif is_code:
            parts.append(text)
        elif line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            parts.append(f"<h{level}>{text[level + 1 :]}</h{level}>")
        elif line.startswith("- "):
            parts.append(f"<p>• {text[2:]}</p>")
        elif line:
            parts.append(f"<p>{text}</p>")
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>UniX CXR: the HTTP API</title>'
    return (
        head
        + '<meta name="viewport" content="width=device-width"><body>'
        + "\n".join(parts)
        + "</body></html>"
    )


def _lines(api: OpenApi) -> Iterator[str]:
    yield from ("# The HTTP API", "", api["info"]["description"], "")
    yield from ("The machine-readable form is at `/openapi.json`.", "")
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            yield from (f"## {method.upper()} {path}", "")
            yield from (f"{route['summary']}. {' '.join(route.get('description', '').split())}", "")
            yield from _body(route)
            yield from _answers(route)
    yield from ("## Shapes", "")
    for name, shape in sorted(api["components"]["schemas"].items()):
        yield from (f"### {name}", "")
        if "description" in shape:
            yield from (" ".join(shape["description"].split()), "")
        yield from _fields(shape)


def _body(route: dict[str, Any]) -> Iterator[str]:
    for media_type, content in route.get("requestBody", {}).get("content", {}).items():
        shape = content["schema"]
        yield f"Takes `{media_type}`: {_type(shape)}"
        yield ""
        if "properties" in shape:
            yield from _fields(shape)
        for example in content.get("examples", {}).values():
            yield from ("```json", json.dumps(example["value"], indent=1), "```", "")


def _answers(route: dict[str, Any]) -> Iterator[str]:
    for status, answer in route["responses"].items():
        kinds = [
            f"`{kind}` {_type(content.get('schema', {}))}"
            for kind, content in answer.get("content", {}).items()
        ]
        yield f"- {status}: {', '.join(kinds)}"
    yield ""


def _fields(shape: dict[str, Any]) -> Iterator[str]:
    required = set(shape.get("required", ()))
    for name, field in shape.get("properties", {}).items():
        default = f", default `{json.dumps(field['default'])}`" if field.get("default") is not None else ""
        optional = "" if name in required else ", optional"
        about = f": {field['description']}" if "description" in field else ""
        yield f"- `{name}` ({_type(field)}{optional}{default}){about}"
    yield ""


def _type(shape: dict[str, Any]) -> str:
    """Name a JSON schema in a few words."""
    if "$ref" in shape:
        return str(shape["$ref"].rpartition("/")[2])
    for key in ("anyOf", "oneOf"):
        if key in shape:
            return " or ".join(_type(one) for one in shape[key] if one.get("type") != "null")
    if "enum" in shape or "const" in shape:
        return " or ".join(json.dumps(value) for value in shape.get("enum", [shape.get("const")]))
    kind = str(shape.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(shape.get('items', {}))}"
    low = shape.get("minimum", shape.get("exclusiveMinimum"))
    high = shape.get("maximum", shape.get("exclusiveMaximum"))
    if low is not None or high is not None:
        return f"{kind} {'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
    return kind
