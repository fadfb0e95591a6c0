"""A sentence under edit that still knows where each of its characters came from in the raw report."""

from __future__ import annotations

import re

from unixcxr.records import Change


class Draft:
    """Holds the current text of raw[start:end] and records every edit with its place in the raw text."""

    def __init__(self, raw: str, start: int, end: int) -> None:
        self.raw = raw
        self.span = (start, end)
        self.text = raw[start:end]
        self.changes: list[Change] = []
        self._origins = [(place, place + 1) for place in range(start, end)]

    def replace(self, start: int, end: int, new: str, rule: str) -> None:
        """Put `new` in place of text[start:end]; an edit that changes nothing is not recorded.

        The recorded span covers the raw characters that the replaced ones came from; an insertion has an empty
        span at the place where it goes.
        """
        old = self.text[start:end]
        if old == new:
            return
        if start < end:
            span = (self._origins[start][0], self._origins[end - 1][1])
        else:
            place = self._origins[start][0] if start < len(self._origins) else self.span[1]
            span = (place, place)
        self.text = self.text[:start] + new + self.text[end:]
        self._origins[start:end] = [span] * len(new)
        self.changes.append(Change(rule, span, self.raw[slice(*span)], new))

    def substitute(self, pattern: re.Pattern[str], new: str, rule: str) -> bool:
        """Replace the first match of `pattern` by the template `new`; say whether the text changed."""
        match = pattern.search(self.text)
        if match is None:
            return False
        before = self.text
        self.replace(match.start(), match.end(), match.expand(new), rule)
        return self.text != before

    def drop(self, reason: str) -> None:
        """Take the whole sentence out."""
        start, end = self.span
        self.text = ""
        self.changes = [Change(f"dropped: {reason}", self.span, self.raw[start:end], "")]
