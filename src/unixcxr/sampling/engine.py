"""The engine: a loaded model that reads and draws chest radiographs.

Letters: H and W pixels, G latent tokens, C latent channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unixcxr.batch import Example, ReadSegment, TextSegment
from unixcxr.cleaning.dicom import ImageSource, read_image, read_source
from unixcxr.config import ModelConfig, SamplingConfig
from unixcxr.data.collate import collate
from unixcxr.data.gate import GateResult, check_image
from unixcxr.data.tokenizer import Tokenizer, load_tokenizer
from unixcxr.data.transforms import image_to_pixels, latent_output_to_image, place_image
from unixcxr.errors import ConfigError, PromptError
from unixcxr.model.autoencoder import Autoencoder
from unixcxr.model.unix import UniX
from unixcxr.model.weights import load_autoencoder, load_model
from unixcxr.runtime import choose_device, choose_dtype
from unixcxr.sampling.explain import image_attention
from unixcxr.sampling.image import Conditions, DrawSettings, draw_latents
from unixcxr.sampling.picture import Picture
from unixcxr.sampling.prefix import encode_prefix
from unixcxr.sampling.report import Pieces, Report
from unixcxr.sampling.text import NewToken, TextSettings, decode

Item = TypeVar("Item")

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


def load_engine(
    model: str | os.PathLike[str] = "embedded",
    device: str = "cpu",
    dtype: str = "float32",
    rope_frequencies: Literal["float32", "bfloat16"] | None = None,
) -> Engine:
    """Load a model directory ("embedded", a path, or a pulled hub id) ready to read and draw.

    `rope_frequencies` ("float32" or "bfloat16") overrides the rounding that the model's config asks for.
    """
    place, precision = choose_device(device), choose_dtype(dtype)
    return Engine(
        load_model(model, place, precision, rope_frequencies=rope_frequencies),
        load_autoencoder(model, place, precision),
        load_tokenizer(model),
    )


class Engine:
    """Reads radiographs into reports and draws radiographs from text; batches equal one at a time."""

    def __init__(self, model: UniX, autoencoder: Autoencoder, tokenizer: Tokenizer) -> None:
        self.model = model
        self.autoencoder = autoencoder
        self.tokenizer = tokenizer

    @property
    def config(self) -> ModelConfig:
        """The model's config."""
        return self.model.config

    def write_report(self, image: ImageSource, prompt: str | None = None, **options: Any) -> Report:
        """Write the report of one radiograph: a path, PIL image, uint8 array or DICOM.

        Options are those of `write_reports`.
        """
        return self.write_reports([image], prompt, **options)[0]

    def write_reports(
        self,
        images: Sequence[ImageSource],
        prompt: str | Sequence[str] | None = None,
        *,
        seeds: Sequence[int] | None = None,
        batch_size: int = 8,
        progress: Progress | None = None,
        **settings: Any,
    ) -> list[Report]:
        """Write the reports of several radiographs; `prompt` is one for all, or one an image.

        `settings` are the fields of `TextSettings`, such as `max_new_tokens` and `temperature`. `seeds` are used
        as given, one an image, and matter only when sampling.
        """
        seeds = _one_each("seeds", range(len(images)) if seeds is None else seeds, len(images))
        prompt = self.config.sampling.report_prompt if prompt is None else prompt
        prompts = _one_each("prompts", prompt, len(images))
        how = self.text_settings(settings)
        reports: list[Report] = []
        for chosen in _groups(len(images), batch_size):
            tokens: dict[int, list[tuple[int, float]]] = {}
            arrays = [read_image(image) for image in images[chosen]]
            for step in self._decode(arrays, prompts[chosen], how, seeds[chosen]):
                for token in step:
                    tokens.setdefault(token.row, []).append((token.token_id, token.logprob))
            for row, (array, text, seed) in enumerate(
                zip(arrays, prompts[chosen], seeds[chosen], strict=True)
            ):
                reports.append(self.finish_report(array, text, how, seed, tokens.get(row, [])))
            if progress is not None:
                progress(len(reports), len(images))
        return reports

    def stream_report(
        self, image: ImageSource, prompt: str | None = None, *, seed: int = 0, **settings: Any
    ) -> Iterator[str]:
        """Yield the pieces of one report as they are written; joined they are `write_report(...).text`."""
        text = prompt if prompt is not None else self.config.sampling.report_prompt
        pieces = Pieces(self.tokenizer)
        for step in self._decode([read_image(image)], [text], self.text_settings(settings), [seed]):
            piece = pieces.add(step[0].token_id)
            if piece:
                yield piece
        rest = pieces.rest()
        if rest:
            yield rest

    def draw_image(
        self,
        text: str,
        seed: int = 0,
        *,
        noise: Float[Tensor, "G C"] | None = None,
        image_context: str | None = None,
        **options: Any,
    ) -> Picture:
        """Draw one radiograph from a text. Options are those of `draw_images`."""
        return self.draw_images(
            [text],
            seeds=[seed],
            noise=None if noise is None else noise[None],
            image_context=image_context,
            **options,
        )[0]

    def draw_images(
        self,
        texts: Sequence[str],
        *,
        seeds: Sequence[int] | None = None,
        noise: Float[Tensor, "B G C"] | None = None,
        image_context: str | Sequence[str] | None = None,
        size_px: int | tuple[int, int] | None = None,
        batch_size: int = 4,
        progress: Progress | None = None,
        **settings: Any,
    ) -> list[Picture]:
        """Draw radiographs from texts, each from its own seed (or `noise`, row-major over the latent grid).

        `settings` are the fields of `DrawSettings`. `image_context` is the text of the image-unconditional row,
        one for all or one a text, which `image_guidance_scale` pushes away from; by default the text itself.
        `size_px` is one side or (height, width). The renormalisation "global_batch" draws all in one batch.
        """
        how = self.draw_settings(settings)
        grid = self.latent_grid(size_px)
        seeds = _one_each("seeds", range(len(texts)) if seeds is None else seeds, len(texts))
        if image_context is not None:
            if how.image_guidance_scale == 1:
                raise ConfigError(
                    "image_context has no effect while image_guidance_scale is 1; set it above 1"
                )
            image_context = _one_each("image contexts", image_context, len(texts))
        conditions = self.conditions(texts, image_context)
        noise = self.noise(seeds, grid) if noise is None else noise
        if noise.shape != (len(texts), grid[0] * grid[1], self.config.autoencoder.latent_channels):
            raise ConfigError(
                f"noise of shape {list(noise.shape)} does not fit {len(texts)} latents of grid {grid}"
            )
        groups = _groups(len(texts), max(1, len(texts)) if how.renorm == "global_batch" else batch_size)
        pictures: list[Picture] = []
        for index, chosen in enumerate(groups):
            on_step = _step_counter(progress, index, len(groups), how.num_steps)
            latents = draw_latents(self.model, conditions[chosen], noise[chosen], grid, how, on_step)
            for place, latent in enumerate(latents, chosen.start):
                context = None if image_context is None else image_context[place]
                pictures.append(self.finish_picture(latent, grid, texts[place], seeds[place], how, context))
        return pictures

    def decode_latent(
        self, latent: Float[Tensor, "G C"], grid: tuple[int, int]
    ) -> Float[Tensor, "channels H W"]:
        """Decode one latent, row-major over `grid`, into pixels around -1..1."""
        weight = next(self.autoencoder.parameters())
        channels_first = latent.T.unflatten(1, grid)[None].to(weight.device, weight.dtype)
        with torch.no_grad():
            return self.autoencoder.decode(channels_first)[0].float().cpu()

    def check_image(self, image: ImageSource) -> GateResult:
        """Say whether an image is likely to be a frontal chest radiograph, and if not, why."""
        source = read_source(image)
        return check_image(source.image, source.facts, is_colour=source.is_colour)

    def explain(self, report: Report, sentence: str) -> Float[np.ndarray, "H W"]:
        """Return where the tokens of one sentence of a report attended, over the radiograph it was written from.

        One extra uncached pass. It shows attention, not causes.
        """
        start = report.text.find(sentence)
        tokens = report.token_range(start, start + len(sentence)) if start >= 0 and sentence else range(0)
        if not tokens:
            raise PromptError(f"the report has no sentence {sentence!r}; pass one of its own sentences")
        answer = TextSegment(report.token_ids)
        example = Example((*self.reading(report.image, report.prompt).segments, answer))
        batch = collate([example], self.config).to(self.model.device, self.model.dtype)
        # The token at place i is predicted from place i - 1; the answer's start token stands before its tokens.
        first = batch.und.token_ids.shape[1] - len(report.token_ids) - 2
        heat = image_attention(self.model, batch, range(first + tokens.start, first + tokens.stop))
        vision, (height, width) = self.config.vision, report.image.shape
        placement = place_image(
            height, width, self.config.preprocessing.transform, vision.image_size_px, vision.patch_size
        )
        return placement.map_back(heat.numpy())

    def _decode(
        self,
        images: Sequence[np.ndarray],
        prompts: Sequence[str],
        settings: TextSettings,
        seeds: Sequence[int],
    ) -> Iterator[list[NewToken]]:
        examples = [self.reading(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        for prompt in prompts:
            self.check_room(prompt, settings)
        prefix = encode_prefix(self.model, examples, 0)  # the decoding batch copies it and makes room itself
        return decode(self.model, prefix, settings, seeds)

    def check_room(self, prompt: str, settings: TextSettings) -> int:
        """Return the tokens of image and prompt. Raises PromptError when a report does not fit behind them."""
        markers = 4  # around the image and around the prompt
        num_given = len(self._prompt_ids(prompt)) + self.config.vision.num_tokens + markers
        room = self.config.transformer.context_length - num_given
        if settings.max_new_tokens > room:
            raise PromptError(
                f"image, prompt and max_new_tokens need {num_given + settings.max_new_tokens} tokens, the context "
                f"holds {self.config.transformer.context_length}; shorten the prompt or max_new_tokens"
            )
        return num_given

    def reading(self, image: np.ndarray, prompt: str) -> Example:
        """Lay out a radiograph and a prompt for the model."""
        vision, preprocessing = self.config.vision, self.config.preprocessing
        pixels = image_to_pixels(
            image,
            preprocessing.transform,
            vision.image_size_px,
            preprocessing.mean,
            preprocessing.std,
            vision.patch_size,
            vision.in_channels,
        )
        return Example((ReadSegment(pixels), TextSegment(self._prompt_ids(prompt))))

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        if not prompt.strip():
            raise PromptError("the prompt is empty; say what to read or draw")
        ids = self.tokenizer.encode(prompt)
        limit = self.config.transformer.context_length
        if len(ids) + 2 > limit:
            raise PromptError(f"the prompt has {len(ids)} tokens, the context holds {limit}; shorten it")
        return (self.config.tokens.bos, *ids) if self.config.tokens.doubled_bos else ids

    def conditions(
        self, texts: Sequence[str], image_contexts: Sequence[str] | None = None
    ) -> list[Conditions]:
        """Lay out texts to draw from, and what their image-unconditional rows see."""

        def example(text: str) -> Example:
            return Example((TextSegment(self._prompt_ids(text)),))

        if image_contexts is None:
            return [Conditions(example(text)) for text in texts]
        return [
            Conditions(example(text), image_free=example(context))
            for text, context in zip(texts, image_contexts, strict=True)
        ]

    def text_settings(self, given: dict[str, Any]) -> TextSettings:
        """Return how to write: what was given, and the model's own for the rest."""
        return _settings(TextSettings, {"max_new_tokens": self.config.sampling.max_new_tokens}, given)

    def draw_settings(self, given: dict[str, Any]) -> DrawSettings:
        """Return how to draw: what was given, and the model's own for the rest."""
        defaults = self.config.sampling
        shared = DrawSettings.__dataclass_fields__.keys() & SamplingConfig.__dataclass_fields__.keys()
        return _settings(DrawSettings, {name: getattr(defaults, name) for name in shared}, given)

    def latent_grid(self, size_px: int | tuple[int, int] | None) -> tuple[int, int]:
        """Return the latent (height, width) of a picture size, by default the model's own."""
        size_px = self.config.sampling.size_px if size_px is None else size_px
        height, width = (size_px, size_px) if isinstance(size_px, int) else size_px
        step, limit = (
            self.config.autoencoder.downsample,
            self.config.latent_grid * self.config.autoencoder.downsample,
        )
        if min(height, width) < step or max(height, width) > limit or height % step or width % step:
            raise ConfigError(
                f"size_px {height}x{width}: sides must be multiples of {step} from {step} to {limit}"
            )
        return height // step, width // step

    def noise(self, seeds: Sequence[int], grid: tuple[int, int]) -> Float[Tensor, "B G C"]:
        """Return the noise that each seed starts from."""
        noise = torch.empty(len(seeds), grid[0] * grid[1], self.config.autoencoder.latent_channels)
        for row, seed in zip(noise, seeds, strict=True):
            row.normal_(generator=torch.Generator().manual_seed(seed))
        return noise

    def finish_picture(
        self,
        latent: Float[Tensor, "G C"],
        grid: tuple[int, int],
        text: str,
        seed: int,
        how: DrawSettings,
        image_context: str | None = None,
    ) -> Picture:
        """Decode a finished latent into a picture with what it takes to draw it again."""
        pixels = self.decode_latent(latent, grid)
        settings = {
            "text": text,
            "model": self.config.name,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "size_px": tuple(side * self.config.autoencoder.downsample for side in grid),
            **asdict(how),
            **({} if image_context is None else {"image_context": image_context}),
        }
        return Picture(
            image=Image.fromarray(latent_output_to_image(pixels)),
            latent=latent.cpu(),
            seed=seed,
            settings=settings,
            intensities=(pixels.mean(0) / 2 + 0.5).clamp(0, 1).numpy(),
        )

    def finish_report(
        self,
        image: np.ndarray,
        prompt: str,
        how: TextSettings,
        seed: int,
        tokens: Sequence[tuple[int, float]],
    ) -> Report:
        """Turn the (id, log-probability) of written tokens into a report."""
        token_ids = tuple(token_id for token_id, _ in tokens)
        whole = self.tokenizer.decode(token_ids)
        lead = len(whole) - len(whole.lstrip())
        text = whole.strip()

        def end_of(count: int) -> int:
            """Return where the first tokens end; an unfinished character (U+FFFD) is not written yet."""
            part = self.tokenizer.decode(token_ids[:count]).rstrip("\ufffd")
            part = whole if count == len(token_ids) else part
            return min(max(len(part) - lead, 0), len(text))

        return Report(
            text=text,
            token_ids=token_ids,
            token_logprobs=tuple(logprob for _, logprob in tokens),
            token_ends=tuple(end_of(count) for count in range(1, len(token_ids) + 1)),
            prompt=prompt,
            seed=seed,
            image=image,
            settings={"model": self.config.name, **asdict(how)},
        )


def _settings(kind: Any, defaults: dict[str, Any], given: dict[str, Any]) -> Any:
    unknown = sorted(given.keys() - kind.__dataclass_fields__.keys())
    if unknown:
        raise ConfigError(
            f"unknown setting {', '.join(unknown)}; known: {', '.join(kind.__dataclass_fields__)}"
        )
    return kind(**{**defaults, **{name: value for name, value in given.items() if value is not None}})


def _one_each(what: str, given: str | Sequence[Item], count: int) -> list[Item]:
    """Return `count` items: one text stands for all, anything else must be as many."""
    items: list[Any] = [given] * count if isinstance(given, str) else list(given)
    if len(items) != count:
        raise ConfigError(f"found {len(items)} {what} for {count} results; give one each")
    return items


def _groups(count: int, size: int) -> list[slice]:
    """Cut `count` items into groups of `size`, the last one perhaps smaller."""
    if size < 1:
        raise ConfigError(f"batch_size must be at least 1, found {size}")
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _step_counter(progress: Progress | None, group: int, num_groups: int, num_steps: int) -> Any:
    """Count solver steps over all groups of a run."""
    if progress is None:
        return None
    return lambda step, *_: progress(group * num_steps + step, num_groups * num_steps)
