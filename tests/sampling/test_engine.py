"""The public contract of the engine: what goes in, what comes out, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unixcxr
from model import released, tiny
from unixcxr.batch import Example, TextSegment
from unixcxr.data.gate import GateResult
from unixcxr.errors import ConfigError, ModelError, PromptError, UnixcxrError
from unixcxr.model.weights import load_autoencoder, load_model
from unixcxr.sampling import engine as engine_module
from unixcxr.sampling.engine import Engine, load_engine
from unixcxr.sampling.image import Conditions, DrawSettings, draw_latents
from unixcxr.sampling.prefix import encode_prefix
from unixcxr.sampling.report import Report
from unixcxr.sampling.text import TextSettings, decode

Films = Sequence[np.ndarray]
SAMPLED = {"temperature": 1.0, "max_new_tokens": 40}


def engine_with(engine: Engine, **changes: Any) -> Engine:
    """Return an engine of the same weights with another config."""
    model = tiny.build(replace(engine.config, **changes))
    return Engine(model, engine.autoencoder, engine.tokenizer)


class TestLoading:
    def test_public_names_load_the_parts(self, tmp_path: Path) -> None:
        directory = tiny.save(tmp_path / "tiny")
        engine = unixcxr.load_engine(directory, device="cpu", dtype="bfloat16")
        assert engine.model.dtype == torch.bfloat16
        assert next(engine.autoencoder.parameters()).dtype == torch.bfloat16
        assert engine.config == unixcxr.load_model(directory).config
        assert type(unixcxr.load_autoencoder(directory)) is type(engine.autoencoder)
        assert unixcxr.load_tokenizer(directory).encode("mass") == engine.tokenizer.encode("mass")

    def test_frequencies_of_a_released_directory(self, tmp_path: Path) -> None:
        shapes = released.released_shapes(released.TINY)
        directory = released.write(tmp_path / "released", released.draw(shapes))
        assert not load_engine(directory).model.rounds_rope
        assert load_engine(directory, dtype="bfloat16").model.rounds_rope
        assert load_engine(directory, rope_frequencies="bfloat16").model.rounds_rope

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"device": "gpu"}, ConfigError),
            ({"dtype": "fp8"}, ConfigError),
            ({"model": "no/such-model"}, ModelError),
        ],
    )
    def test_what_cannot_be_loaded(self, options: dict[str, str], error: type[UnixcxrError]) -> None:
        with pytest.raises(error):
            load_engine(**options)


class TestReading:
    def test_tokens_are_those_of_the_decoder(self, engine: Engine, films: Films) -> None:
        """Without start and end token, counted exactly, each with its log-probability and its place in the text."""
        report = engine.write_report(films[0], "Mild edema.", max_new_tokens=9)
        example = engine.reading(films[0], "Mild edema.")
        prefix = encode_prefix(engine.model, [example], 0)
        steps = list(decode(engine.model, prefix, TextSettings(max_new_tokens=9), [0]))
        assert list(report.token_ids) == [step[0].token_id for step in steps]
        assert list(report.token_logprobs) == pytest.approx([step[0].logprob for step in steps], abs=1e-4)
        assert len(report.token_ids) == len(report.token_logprobs) == len(report.token_ends) <= 9
        assert not {tiny.TOKENS.bos, tiny.TOKENS.eos} & set(report.token_ids)
        assert report.text == engine.tokenizer.decode(report.token_ids).strip()
        assert list(report.token_ends) == sorted(report.token_ends)
        assert (report.prompt, report.seed) == ("Mild edema.", 0)
        assert np.array_equal(report.image, films[0])

    def test_the_settings_write_it_again(self, engine: Engine, films: Films) -> None:
        report = engine.write_report(films[0], seeds=[7], **SAMPLED)
        assert report.prompt == engine.config.sampling.report_prompt
        how = {k: v for k, v in report.settings.items() if k != "model"}
        again = engine.write_report(report.image, report.prompt, seeds=[report.seed], **how)
        assert again.token_ids == report.token_ids
        assert report.settings["model"] == "tiny"

    def test_the_model_s_own_limit_holds(self, engine: Engine, films: Films) -> None:
        report = engine.write_report(films[0], temperature=1.0)
        assert report.settings["max_new_tokens"] == engine.config.sampling.max_new_tokens == 12

    @pytest.mark.parametrize("batch_size", [1, 3, 8])
    def test_batches_are_one_at_a_time(self, engine: Engine, films: Films, batch_size: int) -> None:
        """Different shapes, prompts of different lengths, one seed each."""
        prompts = ["Read the film.", "Mild", "The heart is enlarged. Large mass?", "No"]
        seeds = [11, 12, 13, 14]
        told: list[tuple[int, int]] = []
        together = engine.write_reports(
            films,
            prompts,
            seeds=seeds,
            batch_size=batch_size,
            progress=lambda done, total: told.append((done, total)),
            **SAMPLED,
        )
        for image, prompt, seed, report in zip(films, prompts, seeds, together, strict=True):
            alone = engine.write_report(image, prompt, seeds=[seed], **SAMPLED)
            assert report.token_ids == alone.token_ids
            assert list(report.token_logprobs) == pytest.approx(list(alone.token_logprobs), abs=1e-4)
            assert report.text == alone.text
        assert told == [(min(n, 4), 4) for n in range(batch_size, 4 + batch_size, batch_size)]
        assert len({report.text for report in together}) == 4

    def test_the_image_matters(self, engine: Engine, films: Films) -> None:
        a, b = engine.write_reports(films[:2], seeds=[1, 1], **SAMPLED)
        assert a.token_ids != b.token_ids

    @pytest.mark.parametrize("seed", range(12))
    def test_streamed_pieces_are_the_text(self, engine: Engine, films: Films, seed: int) -> None:
        """Random bytes: characters of several tokens, broken ones, spaces at both ends."""
        options = {"temperature": 1.5, "max_new_tokens": 60}
        pieces = list(engine.stream_report(films[0], seed=seed, **options))
        assert "".join(pieces) == engine.write_report(films[0], seeds=[seed], **options).text
        assert all(pieces)

    def test_kinds_of_images(self, engine: Engine, films: Films, tmp_path: Path) -> None:
        image = Image.fromarray(films[2])
        image.save(tmp_path / "film.png")
        reports = engine.write_reports([films[2], image, tmp_path / "film.png", str(tmp_path / "film.png")])
        assert len({report.token_ids for report in reports}) == 1

    def test_the_start_token_is_doubled_where_the_release_does(self, engine: Engine, films: Films) -> None:
        ids = engine.tokenizer.encode("mass")
        bos = tiny.TOKENS.bos
        doubled = engine_with(engine, tokens=replace(tiny.TOKENS, doubled_bos=True))
        assert engine.reading(films[0], "mass").segments[1] == TextSegment(ids)
        assert doubled.reading(films[0], "mass").segments[1] == TextSegment((bos, *ids))
        assert doubled.conditions(["mass"])[0].full == Example((TextSegment((bos, *ids)),))

    def test_nothing_to_read(self, engine: Engine) -> None:
        assert engine.write_reports([]) == []

    def test_what_is_refused(self, engine: Engine, films: Films) -> None:
        image = films[0]
        room = engine.config.transformer.context_length - engine.check_room("mass", TextSettings(1))
        assert room == 256 - len(engine.tokenizer.encode("mass")) - 2 - 6
        cases: list[tuple[dict[str, Any], type[UnixcxrError], str]] = [
            ({"prompt": " \n"}, PromptError, "the prompt is empty"),
            ({"prompt": "mass " * 300}, PromptError, "the context holds 256"),
            ({"prompt": "mass", "max_new_tokens": room + 1}, PromptError, "need 257 tokens"),
            ({"max_tokens": 3}, ConfigError, "unknown setting max_tokens; known: max_new_tokens"),
            ({"top_p": 0.5}, ConfigError, "has no effect on greedy"),
            ({"seeds": [1, 2]}, ConfigError, "found 2 seeds for 1 results"),
            ({"batch_size": 0}, ConfigError, "batch_size must be at least 1"),
        ]
        for options, error, message in cases:
            with pytest.raises(error, match=message):
                engine.write_report(image, **options)
        with pytest.raises(ConfigError, match="found 1 prompts for 2 results"):
            engine.write_reports(films[:2], ["one"])
        with pytest.raises(PromptError, match="empty"):
            list(engine.stream_report(image, ""))
        full = engine.write_report(image, "mass", max_new_tokens=room, stop_ids=())
        assert len(full.token_ids) <= room


class TestDrawing:
    def test_a_picture_is_its_latent_decoded(self, engine: Engine) -> None:
        picture = engine.draw_image("Large mass.", seed=3)
        assert picture.latent.dtype == torch.float32
        assert picture.latent.shape == (16, 3)
        assert picture.seed == 3
        assert (picture.image.mode, picture.image.size) == ("L", (8, 8))
        grid = picture.latent.T.reshape(1, 3, 4, 4)  # row-major
        with torch.no_grad():
            pixels = engine.autoencoder.decode(grid)[0]
        expected = ((pixels / 2 + 0.5).clamp(0, 1) * 255).floor().mean(0)
        assert np.abs(np.asarray(picture.image) - expected.numpy()).max() <= 0.67
        assert picture.intensities is not None
        assert picture.intensities == pytest.approx((pixels.mean(0) / 2 + 0.5).clamp(0, 1).numpy(), abs=1e-5)

    def test_the_latent_is_the_sampler_s(self, engine: Engine) -> None:
        picture = engine.draw_image("Large mass.", seed=3, num_steps=4, guidance_scale=3.0)
        noise = torch.randn(1, 16, 3, generator=torch.Generator().manual_seed(3))
        ids = engine.tokenizer.encode("Large mass.")
        how = DrawSettings(num_steps=4, guidance_scale=3.0, timestep_shift=1.0)
        condition = Conditions(Example((TextSegment(ids),)))
        latent = draw_latents(engine.model, [condition], noise, (4, 4), how)[0]
        assert torch.allclose(picture.latent, latent, atol=1e-5)

    def test_noise_in_the_place_of_a_seed(self, engine: Engine) -> None:
        by_seed = engine.draw_image("mass", seed=5)
        noise = torch.randn(16, 3, generator=torch.Generator().manual_seed(5))
        assert torch.equal(engine.draw_image("mass", noise=noise).latent, by_seed.latent)
        assert not torch.equal(engine.draw_image("mass", noise=noise + 1).latent, by_seed.latent)

    def test_the_settings_draw_it_again(self, engine: Engine) -> None:
        picture = engine.draw_image(
            "mass",
            seed=5,
            size_px=(4, 6),
            solver="heun",
            image_guidance_scale=1.5,
            image_context="No mass",
            guidance_interval=(0.2, 0.9),
        )
        assert picture.image.size == (6, 4)
        how = dict(picture.settings)
        assert (how.pop("model"), how.pop("dtype")) == ("tiny", "float32")
        again = engine.draw_image(how.pop("text"), seed=picture.seed, **how)
        assert torch.equal(again.latent, picture.latent)
        assert again.settings == picture.settings

    def test_defaults_are_the_model_s_own(self, engine: Engine) -> None:
        settings = engine.draw_image("mass").settings
        shared = {k: v for k, v in asdict(engine.config.sampling).items() if k in settings}
        assert shared.pop("size_px") == 8
        assert settings["size_px"] == (8, 8)
        assert {k: settings[k] for k in shared} == shared
        assert settings["num_steps"] == 3

    @pytest.mark.parametrize("batch_size", [1, 2, 4])
    def test_batches_are_one_at_a_time(self, engine: Engine, batch_size: int) -> None:
        texts = ["Large mass.", "No", "Mild edema. The heart is enlarged."]
        told: list[tuple[int, int]] = []
        together = engine.draw_images(
            texts,
            seeds=[4, 5, 6],
            batch_size=batch_size,
            progress=lambda done, total: told.append((done, total)),
        )
        for text, seed, picture in zip(texts, (4, 5, 6), together, strict=True):
            alone = engine.draw_image(text, seed=seed)
            assert torch.allclose(picture.latent, alone.latent, atol=1e-4)
            assert picture.settings == alone.settings
        groups = -(-3 // batch_size)
        assert told == [(n, 3 * groups) for n in range(1, 3 * groups + 1)]

    def test_seeds_count_up_when_not_given(self, engine: Engine) -> None:
        pictures = engine.draw_images(["mass"] * 3)
        assert [picture.seed for picture in pictures] == [0, 1, 2]
        assert torch.allclose(pictures[2].latent, engine.draw_image("mass", seed=2).latent, atol=1e-5)

    def test_global_batch_is_one_batch_whatever_its_size(self, engine: Engine) -> None:
        """The released norm over all pictures may not depend on how many fit at once."""
        texts = ["mass", "No edema", "Large heart"]
        how: dict[str, Any] = {"renorm": "global_batch", "guidance_scale": 5.0}
        whole = engine.draw_images(texts, batch_size=3, **how)
        cut = engine.draw_images(texts, batch_size=1, **how)
        for a, b in zip(whole, cut, strict=True):
            assert torch.equal(a.latent, b.latent)
        assert not torch.allclose(cut[0].latent, engine.draw_image("mass", **how).latent, atol=1e-4)

    @pytest.mark.parametrize("context", ["No mass", ["No mass", "edema"]])
    def test_image_context(self, engine: Engine, context: Any) -> None:
        """One for all or one a text, through both calls."""
        pictures = engine.draw_images(["mass", "heart"], image_guidance_scale=2.0, image_context=context)
        contexts = ["No mass"] * 2 if isinstance(context, str) else context
        for seed, (text, one) in enumerate(zip(["mass", "heart"], contexts, strict=True)):
            alone = engine.draw_image(text, seed=seed, image_guidance_scale=2.0, image_context=one)
            assert torch.allclose(pictures[seed].latent, alone.latent, atol=1e-4)
            assert pictures[seed].settings["image_context"] == one
            plain = engine.draw_image(text, seed=seed, image_guidance_scale=2.0)
            assert not torch.allclose(alone.latent, plain.latent, atol=1e-3)

    @pytest.mark.parametrize(
        ("size_px", "size"), [(8, (8, 8)), (2, (2, 2)), ((4, 8), (8, 4)), ((2, 6), (6, 2))]
    )
    def test_sizes(self, engine: Engine, size_px: Any, size: tuple[int, int]) -> None:
        """(height, width), each a multiple of the autoencoder's 2 up to the table's 8."""
        picture = engine.draw_image("mass", size_px=size_px)
        assert picture.image.size == size
        assert picture.latent.shape == (size[0] * size[1] // 4, 3)

    def test_nothing_to_draw(self, engine: Engine) -> None:
        assert engine.draw_images([]) == []

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"text": ""}, PromptError, "the prompt is empty"),
            ({"text": "mass " * 300}, PromptError, "the context holds 256; shorten it"),
            ({"size_px": 7}, ConfigError, "size_px 7x7: sides must be multiples of 2 from 2 to 8"),
            ({"size_px": 10}, ConfigError, "size_px 10x10"),
            ({"size_px": (8, 0)}, ConfigError, "size_px 8x0"),
            ({"steps": 3}, ConfigError, "unknown setting steps; known: num_steps"),
            ({"solver": "rk4"}, ConfigError, "unknown solver 'rk4'"),
            ({"guidance_scale": 1.0, "image_guidance_scale": 2.0}, ConfigError, "has no effect"),
            ({"image_context": "No mass"}, ConfigError, "image_context has no effect while"),
            ({"image_context": "  ", "image_guidance_scale": 2.0}, PromptError, "the prompt is empty"),
            (
                {"noise": torch.zeros(15, 3)},
                ConfigError,
                r"noise of shape \[1, 15, 3\] does not fit 1 latents",
            ),
            ({"batch_size": 0}, ConfigError, "batch_size must be at least 1"),
        ],
    )
    def test_what_is_refused(
        self, engine: Engine, options: dict[str, Any], error: type[UnixcxrError], message: str
    ) -> None:
        with pytest.raises(error, match=message) as caught:
            engine.draw_image(**{"text": "mass", **options})
        assert "\n" not in str(caught.value)

    def test_counts_that_do_not_match(self, engine: Engine) -> None:
        with pytest.raises(ConfigError, match="found 1 seeds for 2 results"):
            engine.draw_images(["a", "b"], seeds=[1])
        with pytest.raises(ConfigError, match="found 3 image contexts for 2 results"):
            engine.draw_images(["a", "b"], image_guidance_scale=2.0, image_context=["c"] * 3)


def test_half_precision_and_devices(tmp_path: Path, films: Films, device: str) -> None:
    """The same engine in bfloat16: the same kinds of results, latents near those of float32."""
    directory = tiny.save(tmp_path / "tiny")
    exact = load_engine(directory).draw_image("mass", seed=1)
    rough_engine = load_engine(directory, device=device, dtype="bfloat16")
    rough = rough_engine.draw_image("mass", seed=1)
    assert rough.latent.device.type == "cpu"
    assert rough.latent.dtype == torch.float32
    assert (rough.latent - exact.latent).norm() / exact.latent.norm() < 0.05
    assert rough.settings["dtype"] == "bfloat16"
    report = rough_engine.write_report(films[0], max_new_tokens=5)
    assert isinstance(report, Report)
    assert rough_engine.explain(report, report.text).shape == films[0].shape if report.text else True


def test_check_image_hands_the_picture_to_the_gate(
    engine: Engine, films: Films, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def gate(image: np.ndarray, facts: Any, *, is_colour: bool) -> GateResult:
        seen.append((image, facts, is_colour))
        return GateResult(accepted=False, reason="because")

    monkeypatch.setattr(engine_module, "check_image", gate)
    colour = Image.fromarray(np.dstack([films[1], films[1] // 2, films[1] // 3]))
    assert engine.check_image(films[0]).reason == "because"
    assert not engine.check_image(colour).accepted
    assert np.array_equal(seen[0][0], films[0])
    assert [is_colour for _, _, is_colour in seen] == [False, True]


def test_parts_and_engine_are_one_model(tmp_path: Path) -> None:
    directory = tiny.save(tmp_path / "tiny")
    engine = load_engine(directory)
    parts = Engine(load_model(directory), load_autoencoder(directory), engine.tokenizer)
    assert torch.equal(parts.draw_image("mass").latent, engine.draw_image("mass").latent)
