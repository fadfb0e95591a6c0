"""Examples -> Batch: where order, rotary positions and labels are set.

Letters: B batch, U understanding tokens, G generation tokens, C latent channels.

Layouts follow the released training (`PackedDataset.pack_sequence`) and inference: text counts up one position a
token; a picture with its two markers is one position; a noisy picture does not advance the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unixcxr.batch import (
    IGNORE,
    Batch,
    Example,
    GenTokens,
    LatentSegment,
    Layout,
    ReadSegment,
    TextSegment,
    UndTokens,
)
from unixcxr.config import ModelConfig


@dataclass
class _Stream:
    """The growing token lists of one stream of one sample."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    noisy: list[bool] = field(default_factory=list)

    def add(self, ids: Sequence[int], positions: Sequence[int], order: Sequence[int], is_noisy: bool) -> None:
        self.ids.extend(ids)
        self.positions.extend(positions)
        self.order.extend(order)
        self.noisy.extend([is_noisy] * len(ids))


@dataclass
class _Sample:
    """One example laid out in its two streams, before padding."""

    position: int
    rank: int = 0
    und: _Stream = field(default_factory=_Stream)
    gen: _Stream = field(default_factory=_Stream)
    image_slots: list[bool] = field(default_factory=list)
    label_ids: list[int] = field(default_factory=list)
    label_weights: list[float] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    timesteps: list[Tensor] = field(default_factory=list)


def collate(examples: Sequence[Example], config: ModelConfig, starts: Sequence[int] | None = None) -> Batch:
    """Pad examples into one batch.

    `starts` gives each sample's first rotary position, for samples that continue a cached prefix.
    """
    starts = starts if starts is not None else [0] * len(examples)
    samples = [_lay_out(example, config, start) for example, start in zip(examples, starts, strict=True)]
    images = [image for sample in samples for image in sample.images]
    und = UndTokens(
        token_ids=_pad([s.und.ids for s in samples], config.tokens.eos),
        layout=_pad_layout([s.und for s in samples]),
        images=torch.stack(images) if images else None,
        image_slots=_pad([s.image_slots for s in samples], False) if images else None,
    )
    gen = None
    if any(s.latents for s in samples):
        channels = config.autoencoder.latent_channels
        gen = GenTokens(
            latents=pad_sequence([_cat(s.latents, (0, channels)) for s in samples], batch_first=True),
            timesteps=pad_sequence([_cat(s.timesteps, (0,)) for s in samples], batch_first=True),
            grid_ids=_pad([s.gen.ids for s in samples], 0),
            layout=_pad_layout([s.gen for s in samples]),
        )
    label_ids = _pad([s.label_ids for s in samples], IGNORE)
    has_labels = bool((label_ids != IGNORE).any())
    return Batch(
        und=und,
        gen=gen,
        logit_slots=label_ids != IGNORE if has_labels else None,
        label_ids=label_ids if has_labels else None,
        label_weights=_pad([s.label_weights for s in samples], 0.0) if has_labels else None,
    )


def next_position(example: Example) -> int:
    """Return the rotary position that follows an example (0 for an empty one)."""
    position = 0
    for segment in example.segments:
        if isinstance(segment, TextSegment):
            position += len(segment.token_ids) + 2
        elif isinstance(segment, ReadSegment) or segment.is_context:
            position += 1
    return position


def _lay_out(example: Example, config: ModelConfig, start: int) -> _Sample:
    sample = _Sample(position=start)
    for segment in example.segments:
        if isinstance(segment, TextSegment):
            _add_text(sample, segment, config)
        elif isinstance(segment, ReadSegment):
            _add_read_image(sample, segment, config)
        else:
            _add_latent(sample, segment, config)
    return sample


def _add_text(sample: _Sample, segment: TextSegment, config: ModelConfig) -> None:
    ids = [config.tokens.bos, *segment.token_ids, config.tokens.eos]
    count = len(ids)
    sample.und.add(
        ids, range(sample.position, sample.position + count), range(sample.rank, sample.rank + count), False
    )
    sample.position += count
    sample.rank += count
    sample.image_slots.extend([False] * count)
    labels = [*ids[1:], IGNORE] if segment.has_loss else [IGNORE] * count
    # 'square' weighting of the released training: 1 / sqrt(number of predicted tokens)
    weight = (count - 1) ** -0.5
    sample.label_ids.extend(labels)
    sample.label_weights.extend(weight if label != IGNORE else 0.0 for label in labels)


def _add_read_image(sample: _Sample, segment: ReadSegment, config: ModelConfig) -> None:
    count = config.vision.num_tokens
    ids = [config.tokens.start_of_image, *[config.tokens.start_of_image] * count, config.tokens.end_of_image]
    _add_block(sample, sample.und, ids, is_noisy=False)
    sample.image_slots.extend([False, *[True] * count, False])
    sample.label_ids.extend([IGNORE] * len(ids))
    sample.label_weights.extend([0.0] * len(ids))
    sample.images.append(segment.pixels)
    sample.position += 1
    sample.rank += 1


def _add_latent(sample: _Sample, segment: LatentSegment, config: ModelConfig) -> None:
    is_noisy = not segment.is_context
    channels, height, width = segment.latent.shape
    markers = [config.tokens.start_of_image, config.tokens.end_of_image]
    _add_block(sample, sample.und, markers, is_noisy)
    sample.image_slots.extend([False, False])
    sample.label_ids.extend([IGNORE, IGNORE])
    sample.label_weights.extend([0.0, 0.0])
    _add_block(sample, sample.gen, _grid_ids(height, width, config), is_noisy)
    sample.latents.append(segment.latent.reshape(channels, height * width).T)
    sample.timesteps.append(
        torch.full((height * width,), segment.timestep, dtype=torch.float32, device=segment.latent.device)
    )
    sample.position += 0 if is_noisy else 1
    sample.rank += 1


def _grid_ids(height: int, width: int, config: ModelConfig) -> list[int]:
    """Return the places of a latent grid, row-major, in the square table of positions."""
    side = config.latent_grid
    rows, columns = list(range(height)), list(range(width))
    if config.stretch_positions:
        rows, columns = [i * side // height for i in rows], [i * side // width for i in columns]
    return [row * side + column for row in rows for column in columns]


def _add_block(sample: _Sample, stream: _Stream, ids: Sequence[int], is_noisy: bool) -> None:
    """Add tokens of one picture: all at one position and one rank."""
    stream.add(ids, [sample.position] * len(ids), [sample.rank] * len(ids), is_noisy)


def _cat(tensors: Sequence[Tensor], empty_shape: tuple[int, ...]) -> Tensor:
    return torch.cat(list(tensors)) if tensors else torch.empty(empty_shape)


def _pad(rows: Sequence[Sequence[int | float | bool]], value: int | float | bool) -> Tensor:
    dtype = {bool: torch.bool, int: torch.int64, float: torch.float32}[type(value)]
    return pad_sequence(
        [torch.tensor(row, dtype=dtype) for row in rows], batch_first=True, padding_value=value
    )


def _pad_layout(streams: Sequence[_Stream]) -> Layout:
    return Layout(
        positions=_pad([s.positions for s in streams], 0),
        order=_pad([s.order for s in streams], -1),
        noisy=_pad([s.noisy for s in streams], False),
    )
