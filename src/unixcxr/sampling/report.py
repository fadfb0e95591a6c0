"""A written report: its text, its tokens with log-probabilities, and the findings it states."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from unixcxr.data.tokenizer import Tokenizer
from unixcxr.labels import label_sentences


class Finding(NamedTuple):
    """What one sentence says of one label.

    `confidence` is exp(mean log-probability of the sentence's tokens): the model's confidence, not calibrated.
    """

    label: str
    state: str
    sentence: str
    confidence: float


@dataclass(frozen=True, eq=False)
class Report:
    """A finished report with what it takes to write it again.

    `token_ids` are the new tokens only, without start and end token; `token_ends[i]` is where token i ends in
    `text`; `image` is the radiograph it was written from, uint8 (H, W).
    """

    text: str
    token_ids: tuple[int, ...]
    token_logprobs: tuple[float, ...]
    token_ends: tuple[int, ...]
    prompt: str
    seed: int
    image: np.ndarray = field(repr=False)
    settings: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings that the rule labeler reads from each sentence."""
        found: list[Finding] = []
        for sentence, start, end, states in label_sentences(self.text):
            confidence = self._confidence(start, end)
            found.extend(Finding(label, state, sentence, confidence) for label, state in states.items())
        return tuple(found)

    def token_range(self, start: int, end: int) -> range:
        """Return the indices of the tokens that write text[start:end].

        A token that writes nothing yet, such as the first byte of a character, belongs to what follows it.
        """
        begins = (0, *self.token_ends)
        inside = [i for i, stop in enumerate(self.token_ends) if begins[i] < min(end, stop) and stop > start]
        if not inside:
            return range(0)
        first = inside[0]
        while first > 0 and begins[first - 1] == begins[first]:
            first -= 1
        return range(first, inside[-1] + 1)

    def _confidence(self, start: int, end: int) -> float:
        tokens = self.token_range(start, end)
        return math.exp(sum(self.token_logprobs[i] for i in tokens) / len(tokens)) if tokens else 0.0


class Pieces:
    """Turns tokens into pieces of text that are never taken back; joined they are the report's text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.token_ids: list[int] = []
        self._shown = ""

    def add(self, token_id: int) -> str:
        """Return what one more token lets us show; often nothing."""
        self.token_ids.append(token_id)
        # an unfinished character decodes to U+FFFD, and trailing space may turn out to end the text
        safe = self.tokenizer.decode(self.token_ids).lstrip().rstrip("\ufffd").rstrip()
        return self._show(safe) if len(safe) > len(self._shown) else ""

    def rest(self) -> str:
        """Return what is left to show when no token follows."""
        return self._show(self.tokenizer.decode(self.token_ids).strip())

    def _show(self, text: str) -> str:
        piece = text[len(self._shown) :]
        self._shown = text
        return piece
