"""The objectives as tasks of the loop: reconstruct, label, read, draw.

Letters: B batch, N corpus rows, C latent channels, h w latents, G = h w, T encoder tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from unixcxr.batch import Example, LatentSegment, ReadSegment, TextSegment
from unixcxr.config import ModelConfig
from unixcxr.data.collate import collate
from unixcxr.flow.path import interpolate, sample_timesteps, velocity_target
from unixcxr.model.align import AlignmentProjector, alignment_loss
from unixcxr.model.block import Block
from unixcxr.model.patch_autoencoder import PatchAutoencoder
from unixcxr.model.unix import UniX
from unixcxr.train.attention import write_out_attention
from unixcxr.train.corpus import Corpus, as_grey, augment, draw_indices
from unixcxr.train.losses import label_loss, reconstruction_loss, text_loss, velocity_loss
from unixcxr.train.stages import StageConfig, freeze_except

Encode = Callable[[str], Sequence[int]]
Latents = Callable[[Sequence[int]], Float[Tensor, "B C h w"]]
_OWN_PROMPT_SHARE = 0.75


class ReconstructTask:
    """Autoencoder: crops at full resolution and whole pictures made small, in -1..1."""

    def __init__(self, autoencoder: PatchAutoencoder, corpus: Corpus, stage: StageConfig) -> None:
        freeze_except(autoencoder, stage.trains)
        self.module: nn.Module = autoencoder
        self.autoencoder = autoencoder
        self.corpus = corpus
        self.stage = stage
        self.weights = corpus.weights(stage.source_shares, [True] * len(corpus))

    def losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        truth = self._draw(generator)
        latents = self.autoencoder.encode(truth)
        if self.stage.decoder_noise:
            amount = self.stage.decoder_noise * torch.rand(len(latents), 1, 1, 1, generator=generator)
            latents = latents + amount * torch.randn(latents.shape, generator=generator)
        return {"reconstruction": reconstruction_loss(self.autoencoder.decode(latents), truth)}

    def _draw(self, generator: torch.Generator) -> Float[Tensor, "B 1 H W"]:
        """Draw a batch, all of it crops or all of it whole pictures."""
        size = self.stage.image_size_px
        images = self.corpus.images(draw_indices(self.weights, self.stage.batch_size, generator))
        if torch.rand((), generator=generator) < self.stage.crop_share:
            top, left = torch.randint(0, images.shape[-1] - size + 1, (2,), generator=generator).tolist()
            images = images[..., top : top + size, left : left + size]
        return as_grey(images, size) * 2 - 1


class LabelTask:
    """Vision alone: label targets from its features.

    It leaves the plateau, on which a reader ignores the picture, several times sooner than reading itself does.
    """

    def __init__(self, model: UniX, corpus: Corpus, stage: StageConfig) -> None:
        self.corpus = corpus
        self.stage = stage
        self.config = model.config
        self.vision = model.vision
        self.targets = corpus.targets()
        self.weights = corpus.weights(stage.source_shares, [bool(row.targets) for row in corpus.rows])
        freeze_except(model, stage.trains)
        self.label_head = LabelHead(model.config.vision.width, self.targets.shape[1])
        self.module: nn.Module = nn.ModuleDict({"model": model, "label_head": self.label_head})

    def losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        indices = draw_indices(self.weights, self.stage.batch_size, generator)
        features = self.vision(reading_pixels(self.corpus, indices, self.config, generator))
        return {"label": label_loss(self.label_head(features), self.targets[indices])}


class LabelHead(nn.Module):
    """One linear layer on the means of the four quarters of the feature grid; used in training only."""

    def __init__(self, width: int, num_targets: int) -> None:
        super().__init__()
        self.out = nn.Linear(4 * width, num_targets)

    def forward(self, features: Float[Tensor, "N T E"]) -> Float[Tensor, "N L"]:
        side = int(features.shape[1] ** 0.5)
        grid = features.transpose(1, 2).unflatten(2, (side, side))  # (N, E, side, side)
        return self.out(F.adaptive_avg_pool2d(grid, 2).flatten(1))


def reading_pixels(
    corpus: Corpus, indices: Sequence[int], config: ModelConfig, generator: torch.Generator
) -> Float[Tensor, "B 1 P P"]:
    """Return varied pictures as the vision tower reads them."""
    grey = augment(as_grey(corpus.images(indices), config.vision.image_size_px), generator)
    return (grey - config.preprocessing.mean) / config.preprocessing.std


class ReadTask:
    """Understanding: image and prompt in, report out; an auxiliary label loss on vision features."""

    def __init__(
        self, model: UniX, corpus: Corpus, stage: StageConfig, encode: Encode, prompts: Sequence[str]
    ) -> None:
        self.corpus = corpus
        self.stage = stage
        self.config = model.config
        self.reports = [[tuple(encode(text)) for text in row.reports] for row in corpus.rows]
        self.prompts = [tuple(encode(text)) for text in prompts]
        self.weights = corpus.weights(stage.source_shares, [bool(row.reports) for row in corpus.rows])
        self.targets = corpus.targets()
        freeze_except(model, stage.trains)
        write_out_attention(model)
        self.model = model
        parts: dict[str, nn.Module] = {"model": model}
        self.label_head = LabelHead(model.config.vision.width, self.targets.shape[1])
        if stage.label_weight:
            parts["label_head"] = self.label_head
        self.module: nn.Module = nn.ModuleDict(parts)

    def losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        indices = draw_indices(self.weights, self.stage.batch_size, generator)
        pixels = reading_pixels(self.corpus, indices, self.config, generator)
        examples = []
        for index, image in zip(indices, pixels, strict=True):
            prompt = _pick(self.prompts, generator, first_share=_OWN_PROMPT_SHARE)
            report = _pick(self.reports[index], generator)
            examples.append(
                Example((ReadSegment(image), TextSegment(prompt), TextSegment(report, has_loss=True)))
            )
        batch = collate(examples, self.config)
        features: list[Tensor] = []
        hook = self.model.vision.register_forward_hook(
            lambda _module, _inputs, output: features.append(output)
        )
        try:
            output = self.model(batch)
        finally:
            hook.remove()
        losses = {"text": text_loss(output.logits, batch)}
        if self.stage.label_weight:
            logits = self.label_head(features[0])
            losses["label"] = self.stage.label_weight * label_loss(logits, self.targets[indices])
        return losses


class DrawTask:
    """Generation: prompt and noisy latents in, velocity out; `latents` gives those of corpus rows.

    With `features` (N, T, E), a gen layer is aligned to them.
    """

    def __init__(
        self,
        model: UniX,
        corpus: Corpus,
        stage: StageConfig,
        encode: Encode,
        latents: Latents,
        channel_scales: Float[Tensor, " C"],
        features: NDArray[np.float16] | None = None,
    ) -> None:
        assert (features is not None) == bool(stage.alignment_weight), (
            "features come with an alignment weight"
        )
        self.stage = stage
        self.config = model.config
        self.latents = latents
        weights = channel_scales**stage.channel_power
        self.channel_weights = weights / weights.mean()
        self.features = features
        self.prompts = [[tuple(encode(text)) for text in row.prompts] for row in corpus.rows]
        self.weights = corpus.weights(stage.source_shares, [bool(row.prompts) for row in corpus.rows])
        freeze_except(model, stage.trains)
        write_out_attention(model)
        self.model = model
        parts: dict[str, nn.Module] = {"model": model}
        if features is not None:
            width = model.config.transformer.width
            self.projector = AlignmentProjector(width, features.shape[-1], 2 * width)
            parts["projector"] = self.projector
        self.module: nn.Module = nn.ModuleDict(parts)

    def losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        indices = draw_indices(self.weights, self.stage.batch_size, generator)
        clean = self.latents(indices)  # (B, C, h, w)
        noise = torch.randn(clean.shape, generator=generator)
        times = sample_timesteps(len(indices), self.stage.timestep_shift, generator)
        noisy = interpolate(clean, noise, times)
        dropped = torch.rand(len(indices), generator=generator) < self.stage.text_dropout
        examples = []
        for row, index in enumerate(indices):
            picture = LatentSegment(noisy[row], float(times[row]))
            prompt = TextSegment(_pick(self.prompts[index], generator))
            examples.append(Example((picture,) if dropped[row] else (prompt, picture)))
        aligned_layer = self.stage.alignment_layer if self.features is not None else None
        output = self.model(collate(examples, self.config), gen_hidden_at=aligned_layer)
        target = velocity_target(clean, noise).flatten(2).transpose(1, 2)  # (B, G, C)
        losses = {"velocity": velocity_loss(output.velocity, target, self.channel_weights)}
        if self.features is not None:
            features = torch.from_numpy(self.features[indices]).float()
            projected = self.projector(output.gen_hidden)
            grid = (clean.shape[2], clean.shape[3])
            feature_grid = (self.config.vision.grid_size,) * 2
            losses["alignment"] = self.stage.alignment_weight * alignment_loss(
                projected.float(), grid, features, feature_grid
            )
        return losses


def copy_und_to_gen(model: UniX) -> None:
    """Start the gen stream as a copy of the und stream."""
    for block in model.blocks:
        assert isinstance(block, Block)
        block.gen.load_state_dict(block.und.state_dict())
    model.norm_gen.load_state_dict(model.norm_und.state_dict())


@torch.no_grad()
def encode_corpus(
    autoencoder: PatchAutoencoder, corpus: Corpus, size_px: int, batch_size: int = 64
) -> NDArray[np.float16]:
    """Return the latents of every picture at one size, (N, C, h, w)."""
    parts = []
    for start in range(0, len(corpus), batch_size):
        images = corpus.images(range(start, min(start + batch_size, len(corpus))))
        parts.append(autoencoder.encode(as_grey(images, size_px) * 2 - 1).half().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def read_features(model: UniX, corpus: Corpus, batch_size: int = 64) -> NDArray[np.float16]:
    """Return the vision features of every picture, (N, T, E): what generation is aligned to."""
    config: ModelConfig = model.config
    parts = []
    for start in range(0, len(corpus), batch_size):
        images = corpus.images(range(start, min(start + batch_size, len(corpus))))
        grey = as_grey(images, config.vision.image_size_px)
        features = model.vision((grey - config.preprocessing.mean) / config.preprocessing.std)
        parts.append(features.half().numpy())
    return np.concatenate(parts)


def _pick(
    options: Sequence[tuple[int, ...]], generator: torch.Generator, first_share: float = 0.0
) -> tuple[int, ...]:
    """Pick one of the options, the first with at least `first_share`."""
    if len(options) == 1:
        return options[0]
    draw = torch.rand(2, generator=generator)
    return options[0] if draw[0] < first_share else options[int(draw[1] * len(options))]
