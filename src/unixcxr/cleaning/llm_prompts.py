"""The prompts of rewriting and judging: files of this package, filled in here, and their answers read.

The digest covers every prompt file and schema; it stands in each cache key and in each rewritten row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from unixcxr.cleaning.judge import Verdict, report_text

REWRITE_SCHEMA: dict[str, Any] = {
    "title": "clean_report",
    "type": "object",
    "properties": {"findings": {"type": "string"}, "impression": {"type": "string"}},
    "required": ["findings", "impression"],
    "additionalProperties": False,
}
STATUSES = ("kept", "lost", "invented", "changed")
JUDGE_SCHEMA: dict[str, Any] = {
    "title": "judgement",
    "type": "object",
    "properties": {
        "findings": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "finding": {"type": "string"},
                    "status": {"type": "string", "enum": list(STATUSES)},
                    "note": {"type": "string"},
                },
                "required": ["finding", "status", "note"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["findings"],
    "additionalProperties": False,
}
_USER_MARK = "=== user ==="
_VERSION = re.compile(r"version: (\w+)\n")
_FENCE = re.compile(r"```(?:json)?|<think>.*?</think>", re.DOTALL)
_SECTIONS = re.compile(
    r"\s*[*#]*findings[*]*:[*]*(?P<findings>.*?)(?:\n\s*[*#]*impression[*]*:[*]*(?P<impression>.*))?",
    re.DOTALL | re.IGNORECASE,
)


class UnusableAnswerError(Exception):
    """A model's answer has not the asked form; the message says what to do, for the model."""


@dataclass(frozen=True)
class Prompts:
    """The prompt texts: system and user part of each, and what identifies them."""

    rewrite: tuple[str, str]
    judge: tuple[str, str]
    retry: str
    version: str
    digest: str

    @property
    def name(self) -> str:
        """Return version and digest, as they stand in output rows."""
        return f"{self.version}-{self.digest[:12]}"

    def rewriting(self, raw: str) -> list[dict[str, str]]:
        """Return the messages that ask for a rewriting."""
        return _messages(self.rewrite, report=raw)

    def correction(self, answer: str, complaints: Sequence[str]) -> list[dict[str, str]]:
        """Return the messages that go behind a refused answer."""
        listed = "\n".join(f"- {complaint}" for complaint in complaints)
        return [
            {"role": "assistant", "content": answer},
            {"role": "user", "content": _fill(self.retry, complaints=listed)},
        ]

    def judging(self, raw: str, findings: str, impression: str) -> list[dict[str, str]]:
        """Return the messages that ask for a judgement."""
        return _messages(self.judge, report=raw, rewriting=report_text(findings, impression))


@cache
def load_prompts() -> Prompts:
    """Read the prompt files of the package, once."""
    folder = resources.files("unixcxr.cleaning").joinpath("prompts")
    texts = {
        name: folder.joinpath(f"{name}.md").read_text(encoding="utf-8")
        for name in ("rewrite", "judge", "retry")
    }
    hashed = json.dumps([texts, REWRITE_SCHEMA, JUDGE_SCHEMA], sort_keys=True)
    versions = []
    parts = {}
    for name, text in texts.items():
        match = _VERSION.match(text)
        assert match is not None, f"{name}.md begins with its version"
        system, _, user = text[match.end() :].partition(_USER_MARK)
        versions.append(match[1])
        parts[name] = system.strip(), user.strip()
    return Prompts(
        rewrite=parts["rewrite"],
        judge=parts["judge"],
        retry=parts["retry"][1],
        version=".".join(versions),
        digest=hashlib.sha256(hashed.encode()).hexdigest(),
    )


def read_rewriting(content: str) -> tuple[str, str]:
    """Read findings and impression from an answer: JSON, JSON among other words, or two headed sections.

    Raises UnusableAnswerError.
    """
    found = _find_object(content)
    if found is None:
        headed = _SECTIONS.fullmatch(_FENCE.sub("", content))
        if headed is None:
            raise UnusableAnswerError(
                'the answer is not the JSON object {"findings": "...", "impression": "..."}'
            )
        found = {"findings": headed["findings"], "impression": headed["impression"] or ""}
    keys = {str(key).lower(): value for key, value in found.items()}
    if "findings" not in keys and "impression" not in keys:
        raise UnusableAnswerError('the JSON object has neither "findings" nor "impression"')
    return _plain(keys.get("findings", "")), _plain(keys.get("impression", ""))


def read_judgement(content: str) -> Verdict:
    """Read the model's verdict: every finding that is not kept is a complaint.

    Raises UnusableAnswerError when the answer lists no findings or an unknown status.
    """
    found = _find_object(content)
    rows = found.get("findings") if found else None
    if not isinstance(rows, list) or not rows:
        raise UnusableAnswerError("the judgement lists no findings; list every finding of both texts")
    complaints, kinds = [], []
    for row in rows:
        status = str(row.get("status", "")).lower() if isinstance(row, dict) else ""
        if status not in STATUSES:
            raise UnusableAnswerError(f"a finding has no status among {', '.join(STATUSES)}")
        if status != "kept":
            note = " ".join(f"{row.get('finding', '')}: {row.get('note', '')}".split())
            complaints.append(f"{status}: {note}")
            kinds.append(f"finding {status}")
    return Verdict(not complaints, tuple(complaints), tuple(kinds))


def _find_object(content: str) -> dict[str, Any] | None:
    """Return the first JSON object in a text, whatever stands around it."""
    text = _FENCE.sub("", content)
    decoder = json.JSONDecoder(strict=False)
    at = text.find("{")
    while at >= 0:
        try:
            found, _ = decoder.raw_decode(text, at)
        except ValueError:
            at = text.find("{", at + 1)
            continue
        return found if isinstance(found, dict) else None
    return None


def _plain(value: Any) -> str:
    """Return a section as one line; a list of sentences is joined. Raises UnusableAnswerError."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    if not isinstance(value, str):
        raise UnusableAnswerError("findings and impression must be texts")
    return " ".join(value.split())


def _messages(prompt: tuple[str, str], **values: str) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": prompt[0]},
        {"role": "user", "content": _fill(prompt[1], **values)},
    ]


def _fill(template: str, **values: str) -> str:
    """Put values where {{name}} stands, in one pass, so that a value is never filled in again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)
