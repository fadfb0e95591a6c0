"""What runs beside a request never changes it: joined, left, rotated, all equal to the engine alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model import tiny
from unixcxr.batch import ReadSegment
from unixcxr.errors import ConfigError, PromptError
from unixcxr.model.cache import Cache
from unixcxr.sampling.batching import Reading, Session, Sketch
from unixcxr.sampling.engine import Engine, load_engine
from unixcxr.sampling.image import Conditions, Denoiser, Drawing, DrawSettings, GuidedVelocity
from unixcxr.sampling.prefix import PrefixStore, encode_prefix

CLOSE = 1e-4


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(tiny.save(tmp_path_factory.mktemp("models") / "tiny"))


def film(seed: int, height: int = 20, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def run_dry(session: Session) -> None:
    for _ in range(2000):
        if not session.step() and not session.num_readings and not session.num_sketches:
            return
    raise AssertionError("the session does not end")


READS = [
    {"prompt": "Read the film.", "seed": 0, "max_new_tokens": 12},
    {"prompt": "Large right pleural effusion.", "seed": 1, "max_new_tokens": 40, "temperature": 1.0},
    {"prompt": "Mild", "seed": 2, "max_new_tokens": 5, "temperature": 0.7, "top_p": 0.8},
    {"prompt": "The heart is enlarged.", "seed": 3, "max_new_tokens": 25, "repetition_penalty": 1.4},
]
DRAWS = [
    {"texts": ["Mild edema."], "seeds": [4], "num_steps": 3},
    {"texts": ["Large mass.", "No effusion."], "seeds": [5, 6], "num_steps": 5, "guidance_scale": 3.0},
    {
        "texts": ["Mild edema."],
        "seeds": [7],
        "num_steps": 4,
        "guidance_interval": (0.0, 0.6),
        "solver": "heun",
    },
    {"texts": ["Small"], "seeds": [8], "num_steps": 2, "size_px": (4, 8), "guidance_scale": 1.0},
    {"texts": ["A", "B"], "seeds": [1, 2], "num_steps": 4, "renorm": "global_batch", "timestep_shift": 3.0},
]


def alone(engine: Engine, reads: list[dict]) -> list[tuple[int, ...]]:
    return [
        engine.write_report(film(k), how["prompt"], seeds=[how["seed"]], **_rest(how)).token_ids
        for k, how in enumerate(reads)
    ]


def _rest(how: dict) -> dict:
    return {key: value for key, value in how.items() if key not in ("prompt", "seed")}


@pytest.mark.parametrize("late", [0, 1, 3, 7])
def test_requests_that_come_and_go_get_what_they_get_alone(engine: Engine, late: int) -> None:
    session = Session(engine, max_draw_rows=4)
    readings: list[Reading] = []
    sketches: list[Sketch] = []
    for k, how in enumerate(READS):
        readings.append(session.read(film(k), **how))
        sketches.append(session.draw(**DRAWS[k]))
        for _ in range(late):
            session.step()
    sketches.append(session.draw(**DRAWS[4]))
    run_dry(session)
    assert [reading.report.token_ids for reading in readings] == alone(engine, READS)
    for sketch, how in zip(sketches, DRAWS, strict=True):
        for ours, theirs in zip(sketch.pictures, engine.draw_images(**how), strict=True):
            torch.testing.assert_close(ours.latent, theirs.latent, atol=CLOSE, rtol=0)
            assert ours.settings == theirs.settings


def test_many_generations_of_requests_do_not_pile_up(engine: Engine) -> None:
    session = Session(engine)
    running: dict[int, Reading] = {}
    longest = 0
    for k in range(30):
        running[k] = session.read(film(k), "Read", seed=k, max_new_tokens=3 + k % 50, temperature=1.0)
        for _ in range(4):
            session.step()
        longest = max(longest, session._batch._cache.length)
    run_dry(session)
    for k, reading in running.items():
        wanted = engine.write_report(film(k), "Read", seeds=[k], max_new_tokens=3 + k % 50, temperature=1.0)
        assert reading.report.token_ids == wanted.token_ids
    prefix = reading.num_given
    assert longest < prefix + 52 + 64 + 64
    assert session._batch._cache.length == 0


def test_who_leaves_does_not_disturb_who_stays(engine: Engine) -> None:
    session = Session(engine)
    readings = [session.read(film(k), **how) for k, how in enumerate(READS)]
    sketches = [session.draw(**how) for how in DRAWS]
    session.leave(readings[0])  # before it began
    for _ in range(3):
        session.step()
    session.leave(readings[1])
    session.leave(sketches[1])
    session.leave(sketches[1])  # twice is once
    run_dry(session)
    wanted = alone(engine, READS)
    assert [readings[k].report.token_ids for k in (2, 3)] == wanted[2:]
    assert readings[0].report is None
    assert readings[1].report is None
    assert sketches[1].pictures is None
    assert torch.allclose(
        sketches[2].pictures[0].latent, engine.draw_images(**DRAWS[2])[0].latent, atol=CLOSE
    )


def test_text_and_endings_are_those_of_the_engine(engine: Engine) -> None:
    session = Session(engine)
    reading = session.read(film(1), "Read", seed=5, temperature=1.0, max_new_tokens=30)
    text = ""
    while reading.report is None:
        session.step()
        text += reading.take_text()
    assert (
        text
        == reading.report.text
        == "".join(engine.stream_report(film(1), "Read", seed=5, temperature=1.0, max_new_tokens=30))
    )
    assert reading.ending == ("length" if len(reading.tokens) == 30 else "stop")
    stopped_token = engine.write_report(film(1), "Read", max_new_tokens=1).token_ids[0]
    stopped = session.read(film(1), "Read", max_new_tokens=30, stop_ids=(stopped_token,))
    run_dry(session)
    assert stopped.ending == "stop"
    assert stopped.report.token_ids == ()


def test_previews_end_in_the_picture(engine: Engine) -> None:
    session = Session(engine)
    sketch = session.draw(["Mild edema.", "Mass"], seeds=[1, 2], num_steps=3)
    assert sketch.previews(engine) == []
    steps = []
    while sketch.pictures is None:
        session.step()
        steps.append(sketch.num_done)
    assert steps == [1, 2, 3]
    last = sketch.previews(engine)
    assert [p.image.tobytes() for p in last] == [p.image.tobytes() for p in sketch.pictures]


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e30])
def test_the_ends_of_temperature_are_greedy_and_chance(engine: Engine, temperature: float) -> None:
    report = engine.write_report(film(1), max_new_tokens=8, temperature=temperature)
    if temperature < 1:
        assert report.token_ids == engine.write_report(film(1), max_new_tokens=8).token_ids
    assert all(math.isfinite(logprob) for logprob in report.token_logprobs)


def test_impossible_requests_fail_when_made(engine: Engine) -> None:
    session = Session(engine)
    with pytest.raises(PromptError, match="the context holds"):
        session.read(film(0), max_new_tokens=1000)
    with pytest.raises(PromptError, match="empty"):
        session.draw(["ok", "  "], seeds=[1, 2])
    with pytest.raises(PromptError, match="one seed a text"):
        session.draw(["ok"], seeds=[1, 2])
    for penalty in (0.0, 5e-324, 1e300):
        with pytest.raises(ConfigError, match="repetition_penalty"):
            session.read(film(0), repetition_penalty=penalty)
    with pytest.raises(ConfigError):
        session.draw(["ok"], seeds=[1], num_steps=0)
    with pytest.raises(ConfigError):
        session.draw(["ok"], seeds=[1], size_px=7)
    assert session.step() == []


def test_time_is_shared_equally_and_idleness_is_no_credit(engine: Engine) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    session = Session(engine, clock=clock)
    for _ in range(10):
        session.draw(["x"], seeds=[0], num_steps=1)
        session.step()
    session.read(film(0), max_new_tokens=12, seed=0)
    session.draw(["x"], seeds=[0], num_steps=30)
    kinds = "".join("r" if isinstance(moved, Reading) else "d" for _ in range(8) for moved in session.step())
    assert kinds in ("rdrdrdrd", "drdrdrdr")


def test_drawings_take_turns_under_a_row_limit(engine: Engine) -> None:
    session = Session(engine, max_draw_rows=2)
    sketches = [session.draw(["x"], seeds=[k], num_steps=4, guidance_interval=(0.0, 1.0)) for k in range(3)]
    for _ in range(6):
        session.step()
    assert [sketch.num_done for sketch in sketches] == [2, 2, 2]


def test_one_pass_serves_several_grids_times_and_guidances(engine: Engine) -> None:
    denoiser, alone_denoiser = Denoiser(engine.model), Denoiser(engine.model)
    wanted = []
    for k, grid in enumerate([(2, 2), (2, 3), (2, 2), (4, 4)]):
        how = DrawSettings(num_steps=4, guidance_scale=1.0 + k, guidance_interval=(0.2, 0.9))
        conditions = [
            Conditions(
                tiny.example(ReadSegment(tiny.picture(k)), tiny.text(1 + k, 2)),
                text_free=tiny.example(tiny.text(9)),
                image_free=tiny.example(tiny.text(*range(1, 3 + k))),
            )
        ]
        field = GuidedVelocity(engine.model, conditions, grid, how)
        wanted.append((field, engine.noise([k], grid), 0.1 + 0.25 * k))
    together = denoiser.velocities(wanted)
    for one, velocity in zip(wanted, together, strict=True):
        torch.testing.assert_close(velocity, alone_denoiser.velocities([one])[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(velocity, one[0](one[1], one[2]), atol=1e-5, rtol=0)


def test_a_drawing_is_the_solver_walked(engine: Engine) -> None:
    field = GuidedVelocity(
        engine.model, engine.conditions(["Mass"]), (4, 4), DrawSettings(num_steps=3, solver="heun")
    )
    drawing, asked = Drawing(field, engine.noise([0], (4, 4))), []
    while drawing.latents is None:
        asked.append(round(drawing.timestep, 4))
        drawing.advance(field(drawing.x, drawing.timestep))
    assert asked == [1.0, 0.8571, 0.8571, 0.6, 0.6]
    assert torch.allclose(
        drawing.latents,
        engine.draw_image("Mass", num_steps=3, timestep_shift=3.0, solver="heun").latent,
        atol=CLOSE,
    )


def test_the_store_encodes_equal_examples_once_and_forgets_over_its_budget(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def counting(model: object, examples: list, num_more: int) -> object:
        encoded.append(len(examples))
        return encode_prefix(model, examples, num_more)

    monkeypatch.setattr("unixcxr.sampling.prefix.encode_prefix", counting)
    one, other = tiny.example(tiny.text(1, 2, 3)), tiny.example(tiny.text(4))
    same = tiny.example(tiny.text(1, 2, 3))
    picture = tiny.example(ReadSegment(tiny.picture(1)), tiny.text(4))
    lighter = tiny.example(ReadSegment(tiny.picture(1) + 1), tiny.text(4))
    store = PrefixStore(engine.model, budget_bytes=1 << 20)
    prefix = store.encode([one, tiny.example(), same, other])
    assert encoded == [2]
    assert prefix.positions == (5, 0, 5, 3)
    assert prefix.cache.valid.sum(1).tolist() == [5, 0, 5, 3]
    store.encode([other, same])
    assert encoded == [2]
    store.encode([picture, lighter, picture])
    assert encoded == [2, 2]
    forgetful = PrefixStore(engine.model)
    forgetful.encode([one])
    forgetful.encode([one])
    assert encoded == [2, 2, 1, 1]
    direct = encode_prefix(engine.model, [one], 0)
    for ours, theirs in zip(prefix.cache.keys, direct.cache.keys, strict=True):
        torch.testing.assert_close(ours[2, :, :5], theirs[0], atol=1e-6, rtol=0)


def test_rows_of_a_cache_append_leave_and_close_ranks() -> None:
    def filled(rows: int, length: int, value: float) -> Cache:
        cache = Cache(tiny.TRANSFORMER, rows, length)
        for buffer in (*cache.keys, *cache.values):
            buffer += value
        cache._valid[:] = True
        cache.length = length
        return cache

    cache = filled(1, 5, 1.0)
    cache.append(filled(2, 3, 2.0))
    assert cache.batch_size == 3
    assert cache.valid.tolist() == [[True] * 5, [True] * 3 + [False] * 2, [True] * 3 + [False] * 2]
    assert cache.keys[0][:3, 0, 2, 0].tolist() == [1.0, 2.0, 2.0]
    cache.remove(0)
    assert cache.keys[0][:2, 0, 2, 0].tolist() == [2.0, 2.0]
    assert cache.length == 5
    cache.compact()
    assert cache.length == 3
    cache.append(filled(1, 7, 3.0))
    assert cache.valid.sum(1).tolist() == [3, 3, 7]
    cache.remove(2)
    cache.remove(1)
    cache.remove(0)
    cache.compact()
    assert (cache.batch_size, cache.length) == (0, 0)
    joined = Cache.concat([filled(1, 2, 4.0), filled(1, 6, 5.0)], num_more=3)
    assert joined.valid.sum(1).tolist() == [2, 6]
    assert joined.keys[0].shape[2] == 9
