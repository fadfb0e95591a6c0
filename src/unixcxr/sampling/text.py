"""Decode text token by token from a cached prefix: greedy or sampled, batched, one generator a row.

Letters: B rows still decoding, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unixcxr.batch import Batch, Layout, UndTokens
from unixcxr.errors import ConfigError
from unixcxr.model.unix import UniX
from unixcxr.sampling.prefix import Prefix


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
        if self.repetition_penalty <= 0:
            raise ConfigError(f"repetition_penalty must be above 0, found {self.repetition_penalty}")


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
    stops = {model.config.tokens.eos, *settings.stop_ids}
    device = model.latent_in.weight.device
    rows = list(range(len(seeds)))
    cache, positions = prefix.cache, list(prefix.positions)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    written: list[list[int]] = [[] for _ in seeds]
    token_ids = [model.config.tokens.bos] * len(rows)
    for _ in range(settings.max_new_tokens):
        output = model(_one_token_batch(token_ids, positions, device), cache)
        logits = output.logits.float().cpu()  # B V
        logprobs = logits.log_softmax(-1)
        chosen = [_choose(logits[i], settings, written[row], generators[row]) for i, row in enumerate(rows)]
        kept = [i for i, token_id in enumerate(chosen) if token_id not in stops]
        new = [NewToken(rows[i], chosen[i], float(logprobs[i, chosen[i]])) for i in kept]
        for token in new:
            written[token.row].append(token.token_id)
        if new:
            yield new
        if not kept:
            return
        if len(kept) < len(rows):
            cache = cache.select(kept)
        rows = [rows[i] for i in kept]
        positions = [positions[i] + 1 for i in kept]
        token_ids = [token.token_id for token in new]


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
    probabilities = (logits.double() / settings.temperature).softmax(-1)
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
