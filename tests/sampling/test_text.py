"""Decoding against plain uncached passes, hand-worked nuclei and penalties, and itself in other company."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model import tiny
from unixcxr.batch import Example, ReadSegment
from unixcxr.data.collate import collate
from unixcxr.errors import ConfigError
from unixcxr.model.unix import UniX
from unixcxr.sampling.prefix import encode_prefix
from unixcxr.sampling.text import DecodingBatch, NewToken, TextSettings, decode, nucleus, penalise

MODEL = tiny.build()
EOS = tiny.TOKENS.eos
EXAMPLES = [
    tiny.example(ReadSegment(tiny.picture(1)), tiny.text(5, 6, 7)),
    tiny.example(ReadSegment(tiny.picture(2)), tiny.text(8)),
    tiny.example(tiny.text(*range(20, 31))),
    tiny.example(ReadSegment(tiny.picture(3)), tiny.text(9, 10, 11, 12, 13, 14, 15)),
]
"""Prefixes of different lengths, one without an image."""


def write(
    examples: Sequence[Example],
    settings: TextSettings,
    seeds: Sequence[int] | None = None,
    model: UniX = MODEL,
) -> list[list[NewToken]]:
    """Decode; return each row's tokens."""
    rows: list[list[NewToken]] = [[] for _ in examples]
    prefix = encode_prefix(model, examples, 0)
    for step in decode(model, prefix, settings, seeds or range(len(examples))):
        assert [token.row for token in step] == sorted({token.row for token in step})
        for token in step:
            rows[token.row].append(token)
    return rows


def ids(tokens: Sequence[NewToken]) -> list[int]:
    return [token.token_id for token in tokens]


@torch.no_grad()
def uncached_logits(example: Example, written: Sequence[int], model: UniX = MODEL) -> Tensor:
    """Return the logits after the start token and after each written token, from one pass over everything."""
    whole = Example((*example.segments, tiny.text(*written, has_loss=True)))
    return model(collate([whole], model.config)).logits


@pytest.mark.parametrize("example", EXAMPLES)
def test_greedy_is_the_argmax_of_uncached_passes(example: Example) -> None:
    (tokens,) = write([example], TextSettings(max_new_tokens=20))
    logits = uncached_logits(example, ids(tokens))
    expected = logits.argmax(-1).tolist()
    assert ids(tokens) == expected[: len(tokens)]
    assert len(tokens) == 20 or expected[len(tokens)] == EOS


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_log_probabilities_are_the_model_s_own(temperature: float) -> None:
    """Log-softmax of the uncached logits, at temperature 1 whatever the sampling was."""
    settings = TextSettings(max_new_tokens=15, temperature=temperature, repetition_penalty=1.3)
    for example, tokens in zip(EXAMPLES, write(EXAMPLES, settings), strict=True):
        expected = uncached_logits(example, ids(tokens)).log_softmax(-1)
        for place, token in enumerate(tokens):
            assert token.logprob == pytest.approx(expected[place, token.token_id].item(), abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        TextSettings(max_new_tokens=25),
        TextSettings(max_new_tokens=25, temperature=1.0),
        TextSettings(max_new_tokens=25, temperature=0.8, top_p=0.7, repetition_penalty=1.2),
    ],
    ids=["greedy", "sampled", "nucleus and penalty"],
)
def test_a_batch_is_its_rows_one_at_a_time(settings: TextSettings, device: str) -> None:
    """Rows of different lengths, some ending early: the same ids, log-probabilities within 1e-4."""
    model = tiny.build().to(device)
    seeds = [3, 1, 4, 1]
    alone = [write([e], settings, [s], model)[0] for e, s in zip(EXAMPLES, seeds, strict=True)]
    # tokens in the middle of two texts become stopping ones, so that rows leave at different times
    stops = (alone[0][3].token_id, alone[2][8].token_id)
    settings = replace(settings, stop_ids=stops)
    alone = [write([e], settings, [s], model)[0] for e, s in zip(EXAMPLES, seeds, strict=True)]
    assert len({len(tokens) for tokens in alone}) > 1
    together = write(EXAMPLES, settings, seeds, model)
    for a, b in zip(alone, together, strict=True):
        assert ids(a) == ids(b)
        assert [t.logprob for t in a] == pytest.approx([t.logprob for t in b], abs=1e-4)


def slow_choice(
    logits: Tensor, written: Sequence[int], settings: TextSettings, generator: torch.Generator
) -> int:
    """Choose a token as the settings are described: lists, loops, no tensors but for the draw."""
    scores = [float(score) for score in logits]
    for token_id in set(written):
        score, penalty = scores[token_id], settings.repetition_penalty
        scores[token_id] = score / penalty if score > 0 else score * penalty
    if settings.temperature == 0:
        return scores.index(max(scores))
    exponentials = [math.exp((score - max(scores)) / settings.temperature) for score in scores]
    probabilities = [e / math.fsum(exponentials) for e in exponentials]
    kept, reached = set(), 0.0
    for token_id in sorted(range(len(scores)), key=lambda i: -probabilities[i]):
        if reached >= settings.top_p:
            break
        kept.add(token_id)
        reached += probabilities[token_id]
    weights = torch.tensor(
        [p if i in kept else 0.0 for i, p in enumerate(probabilities)], dtype=torch.float64
    )
    return int(torch.multinomial(weights, 1, generator=generator))


@pytest.mark.parametrize(
    "settings",
    [
        TextSettings(temperature=1.0),
        TextSettings(temperature=0.5, top_p=0.6),
        TextSettings(temperature=2.0, top_p=0.9, repetition_penalty=1.5),
        TextSettings(repetition_penalty=1.8),
        TextSettings(temperature=1.0, repetition_penalty=0.5),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_sampling_against_a_slow_implementation(settings: TextSettings, seed: int) -> None:
    settings = replace(settings, max_new_tokens=12)
    example = EXAMPLES[seed]
    (tokens,) = write([example], settings, [seed])
    generator = torch.Generator().manual_seed(seed)
    expected: list[int] = []
    while len(expected) < 12:
        chosen = slow_choice(uncached_logits(example, expected)[-1], expected, settings, generator)
        if chosen == EOS:
            break
        expected.append(chosen)
    assert ids(tokens) == expected


def test_samples_follow_the_probabilities() -> None:
    """Frequencies of the first token over 4000 seeds, within four standard errors."""
    n, settings = 4000, TextSettings(max_new_tokens=1, temperature=0.5)
    prefix = encode_prefix(MODEL, EXAMPLES[:1], 0).select([0] * n)
    batch = DecodingBatch(MODEL)
    batch.join(prefix, settings, range(n))
    tokens, ended = batch.step()
    counts = torch.zeros(tiny.TRANSFORMER.vocab_size)
    for token in tokens:
        counts[token.token_id] += 1
    counts[EOS] = sum(ending == "stop" for ending in ended.values())
    assert counts.sum() == n
    probabilities = (uncached_logits(EXAMPLES[0], [])[0] / 0.5).softmax(-1)
    errors = (probabilities * (1 - probabilities) / n).sqrt()
    likely = probabilities > 0.005
    assert likely.sum() > 10
    assert ((counts / n - probabilities)[likely].abs() < 4 * errors[likely]).all()


def test_seeds_give_the_same_text_again_and_other_seeds_another() -> None:
    settings = TextSettings(max_new_tokens=15, temperature=1.0)
    texts = [ids(write(EXAMPLES[:1], settings, [seed])[0]) for seed in (5, 5, 6)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_tokens_are_counted_exactly_and_stops_are_no_part_of_the_text() -> None:
    for count in (1, 2, 7):
        (tokens,) = write(EXAMPLES[:1], TextSettings(max_new_tokens=count))
        assert len(tokens) == count
    (tokens,) = write(EXAMPLES[:1], TextSettings(max_new_tokens=9))
    stop = tokens[4].token_id
    first = ids(tokens).index(stop)
    (stopped,) = write(EXAMPLES[:1], TextSettings(max_new_tokens=9, stop_ids=(stop,)))
    assert ids(stopped) == ids(tokens)[:first]
    (none,) = write(EXAMPLES[:1], TextSettings(stop_ids=(tokens[0].token_id,)))
    assert none == []


def test_the_end_token_ends_a_text() -> None:
    """A head that prefers the end token writes nothing; one that never does writes to the limit."""
    model = tiny.build(tiny.with_transformer(tied_text_head=False))
    example = EXAMPLES[2]
    hidden = model.text_head.weight
    with torch.no_grad():
        hidden[EOS] = 0
        assert len(write([example], TextSettings(max_new_tokens=30), model=model)[0]) == 30
        hidden[:] = 0
        hidden[EOS] = model(collate([Example((*example.segments, tiny.text()))], model.config)).und[0, -2]
    assert write([example], TextSettings(max_new_tokens=30), model=model)[0] == []


def test_a_prefix_serves_many_texts() -> None:
    """Decoding leaves the prefix as it was."""
    prefix = encode_prefix(MODEL, EXAMPLES[:1], 4)
    settings = TextSettings(max_new_tokens=10)
    first, second = (list(decode(MODEL, prefix, settings, [0])) for _ in range(2))
    assert first == second


def test_nucleus_by_hand() -> None:
    probabilities = torch.tensor([0.1, 0.4, 0.2, 0.3])
    for top_p, kept in (
        (0.1, [1]),
        (0.39, [1]),
        (0.41, [1, 3]),
        (0.69, [1, 3]),
        (0.71, [1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
    ):
        expected = [p if i in kept else 0.0 for i, p in enumerate(probabilities.tolist())]
        assert nucleus(probabilities, top_p).tolist() == pytest.approx(expected), top_p


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=12), st.floats(0.01, 0.999))
def test_nucleus_is_the_smallest_that_reaches(logits: list[float], top_p: float) -> None:
    probabilities = torch.tensor(logits, dtype=torch.float64).softmax(-1)
    kept = nucleus(probabilities, top_p)
    inside = kept > 0
    assert torch.equal(kept[inside], probabilities[inside])
    assert kept.sum() >= top_p - 1e-9
    assert kept.sum() - kept[inside].min() < top_p
    assert inside.all() or probabilities[~inside].max() <= probabilities[inside].min()


def test_repetition_penalty_by_hand() -> None:
    logits = torch.tensor([3.0, -1.0, 2.0, 0.0])
    assert penalise(logits, torch.tensor([0, 1, 1, 3]), 2.0).tolist() == [1.5, -2.0, 2.0, 0.0]
    assert logits.tolist() == [3.0, -1.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -0.1}, "temperature must be 0"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p must be in"),
        ({"temperature": 1.0, "top_p": 1.1}, "top_p must be in"),
        ({"top_p": 0.9}, "has no effect on greedy decoding"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextSettings(**settings)  # type: ignore[arg-type]
