"""Decode text token by token from a cached prefix: greedy or sampled, batched, one generator a row.

Letters: B rows still decoding, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unixcxr.batch import Batch, Layout, UndTokens
from unixcxr.errors import ConfigError
from unixcxr.model.unix import UniX
from unixcxr.sampling.prefix import Prefix

Ending = Literal["stop", "length"]
"""Why a text ended: by a stopping token, or at `max_new_tokens`."""

_ROOM = 64
"""Slots that a batch keeps free for new tokens, and how many holes it bears before it closes them."""


@dataclass(frozen=True)
class TextSettings:
    """How tokens are chosen.

    `temperature` 0 is greedy. `top_p` keeps the smallest set of tokens whose probability reaches it (Holtzman et
    al. 2020). `repetition_penalty` divides the positive and multiplies the negative logits of tokens already
    written (Keskar et al. 2019). `stop_ids` end a row beside the end token and, like it, are not part of the text.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, found {self.max_new_tokens}")
        if self.temperature < 0:
            raise ConfigError(f"temperature must be 0 (greedy) or more, found {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be in (0, 1], found {self.top_p}")
        if self.top_p < 1 and self.temperature == 0:
            raise ConfigError(f"top_p {self.top_p} has no effect on greedy decoding; set a temperature too")
        if not 0.01 <= self.repetition_penalty <= 100:  # further out logits overflow
            raise ConfigError(
                f"repetition_penalty must be above 0, from 0.01 to 100, found {self.repetition_penalty}"
            )


@dataclass(frozen=True)
class NewToken:
    """One token of one row, with the log-probability that the model itself gave it (temperature 1)."""

    row: int
    token_id: int
    logprob: float


@torch.no_grad()
def decode(
    model: UniX, prefix: Prefix, settings: TextSettings, seeds: Sequence[int]
) -> Iterator[list[NewToken]]:
    """Yield, a step at a time, the next token of every row that has not ended.

    Rows that end leave the batch. A row's tokens depend on its prefix and its seed only.
    """
    batch = DecodingBatch(model)
    batch.join(prefix, settings, seeds)
    while batch.rows:
        tokens, _ = batch.step()
        if tokens:
            yield sorted(tokens, key=lambda token: token.row)


@dataclass(eq=False)
class _Row:
    """One text being written: where it stands, and how its next token is chosen."""

    row: int
    settings: TextSettings
    generator: torch.Generator
    token_id: int
    position: int
    written: list[int] = field(default_factory=list)


class DecodingBatch:
    """Texts being written together; they join and leave between tokens, and none notices the others."""

    def __init__(self, model: UniX) -> None:
        self.model = model
        self._rows: list[_Row] = []
        self._cache = model.new_cache(0, 0)
        self._num_joined = 0

    @property
    def rows(self) -> list[int]:
        """Return the numbers of the rows that have not ended."""
        return [row.row for row in self._rows]

    def join(self, prefix: Prefix, settings: TextSettings, seeds: Sequence[int]) -> list[int]:
        """Let every row of a prefix join, each with its own seed; return their numbers. The prefix is copied."""
        first = self._num_joined
        self._num_joined += len(seeds)
        for row, (position, seed) in enumerate(zip(prefix.positions, seeds, strict=True), first):
            generator = torch.Generator().manual_seed(seed)
            self._rows.append(_Row(row, settings, generator, self.model.config.tokens.bos, position))
        self._cache.append(prefix.cache)
        self._cache.reserve(min(settings.max_new_tokens, _ROOM))
        return list(range(first, self._num_joined))

    def leave(self, row: int) -> None:
        """Take out a row that has not ended."""
        place = self.rows.index(row)
        self._cache.remove(place)
        self._rows[place] = self._rows[-1]
        self._rows.pop()
        if self._cache.length - int(self._cache.valid.any(0).sum()) >= _ROOM or not self._rows:
            self._cache.compact()

    @torch.no_grad()
    def step(self) -> tuple[list[NewToken], dict[int, Ending]]:
        """Write one more token in every row; return the new tokens, and why the rows that ended did.

        A stopping token is no part of the text. Rows that end leave.
        """
        rows = self._rows
        output = self.model(
            _one_token_batch(
                [row.token_id for row in rows],
                [row.position for row in rows],
                self.model.device,
            ),
            self._cache,
        )
        logits = output.logits.float().cpu()  # B V
        logprobs = logits.log_softmax(-1)
        tokens: list[NewToken] = []
        ended: dict[int, Ending] = {}
        for place, row in enumerate(rows):
            chosen = _choose(logits[place], row.settings, row.written, row.generator)
            if chosen == self.model.config.tokens.eos or chosen in row.settings.stop_ids:
                ended[row.row] = "stop"
                continue
            tokens.append(NewToken(row.row, chosen, float(logprobs[place, chosen])))
            row.written.append(chosen)
            row.token_id, row.position = chosen, row.position + 1
            if len(row.written) == row.settings.max_new_tokens:
                ended[row.row] = "length"
        for number in ended:
            self.leave(number)
        return tokens, ended


def _one_token_batch(token_ids: list[int], positions: list[int], device: torch.device) -> Batch:
    ids = torch.tensor(token_ids, device=device)[:, None]
    zeros = torch.zeros_like(ids)
    layout = Layout(torch.tensor(positions, device=device)[:, None], zeros, zeros.bool())
    return Batch(UndTokens(ids, layout), logit_slots=~zeros.bool())


def _choose(
    logits: Float[Tensor, " V"], settings: TextSettings, written: list[int], generator: torch.Generator
) -> int:
    """Pick one token id. Sampling is in float64 on the CPU, so that devices agree on close calls."""
    if settings.repetition_penalty != 1.0 and written:
        logits = penalise(logits, torch.tensor(written), settings.repetition_penalty)
    if settings.temperature == 0:
        return int(logits.argmax())
    # The largest logit is 0 before the division, so that the smallest temperatures end in greedy, not in NaN.
    scores = logits.double()
    probabilities = ((scores - scores.max()) / settings.temperature).softmax(-1)
    if settings.top_p < 1:
        probabilities = nucleus(probabilities, settings.top_p)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def penalise(logits: Float[Tensor, " V"], written: Int[Tensor, " n"], penalty: float) -> Float[Tensor, " V"]:
    """Make tokens already written less likely."""
    scores = logits[written]
    return logits.index_put((written,), torch.where(scores > 0, scores / penalty, scores * penalty))


def nucleus(probabilities: Float[Tensor, " V"], top_p: float) -> Float[Tensor, " V"]:
    """Zero all but the smallest set of likeliest tokens whose probability reaches `top_p`, not renormalised."""
    ordered, ids = probabilities.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter(
        0, ids, ordered.where(before < top_p, ordered.new_zeros(()))
    )
