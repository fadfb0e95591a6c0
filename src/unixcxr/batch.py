"""What enters and leaves the model: segments of an example, a padded batch, an output.

Letters: B batch, U understanding tokens, G generation tokens, S tokens of one stream, C latent channels,
D width, V vocabulary, N read images or selected positions, P pixels along one side.

A sample is a sequence of segments in logical order. In memory its tokens lie in two streams, `und` (text,
features of read images, the markers around every picture) and `gen` (latents); logical order survives in
`Layout.order` and `Layout.positions`, so where a token lies in its stream is free.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORE = -100
"""Label id of a position without a loss, as in `torch.nn.functional.cross_entropy`."""

Moved = TypeVar("Moved", bound="_Tensors")


@dataclass(frozen=True)
class TextSegment:
    """Text between a start and an end token: causal. With `has_loss` its tokens are to be predicted."""

    token_ids: tuple[int, ...]
    has_loss: bool = False


@dataclass(frozen=True)
class ReadSegment:
    """A read image: `pixels` (channels, P, P), float, normalised for the vision encoder."""

    pixels: Tensor


@dataclass(frozen=True)
class LatentSegment:
    """A picture in latent space (C, h, w), through the gen stream.

    Noisy: `latent` is x_t at its `timestep` in (0, 1], to be drawn. Context: timestep 0, a clean picture that
    everything after it sees.
    """

    latent: Tensor
    timestep: float
    is_context: bool = False


Segment = TextSegment | ReadSegment | LatentSegment


@dataclass(frozen=True)
class Example:
    """One sample: its segments in logical order."""

    segments: tuple[Segment, ...]
    id: str = ""


class _Tensors:
    """Dataclasses of tensors that move between devices together; `images` and `latents` also take a dtype.

    Times and weights stay float32: a time rounded to bfloat16 is another time.
    """

    def to(self: Moved, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Moved:
        """Move every tensor to `device`, and pixels and latents to `dtype`."""
        changes: dict[str, Any] = {}
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, _Tensors):
                changes[f.name] = value.to(device, dtype)
            elif isinstance(value, Tensor):
                changes[f.name] = value.to(device, dtype if f.name in ("images", "latents") else None)
        return replace(self, **changes)  # type: ignore[type-var]


@dataclass(frozen=True)
class Layout(_Tensors):
    """Where each token stands: what rotary attention and the mask need to know.

    `positions` (B, S): rotary positions; a whole picture with its markers is one position.
    `order` (B, S): rank in the sample; text counts up, all tokens of a picture share one rank, padding is -1.
    `noisy` (B, S): part of a drawn picture, seen by nobody outside it.
    """

    positions: Int[Tensor, "B S"]
    order: Int[Tensor, "B S"]
    noisy: Bool[Tensor, "B S"]

    def __post_init__(self) -> None:
        assert self.positions.shape == self.order.shape == self.noisy.shape, "layout fields differ in shape"

    @property
    def valid(self) -> Bool[Tensor, "B S"]:
        """Return which tokens are not padding."""
        return self.order >= 0

    def join(self, other: Layout) -> Layout:
        """Concatenate two streams' layouts along the sequence."""
        return Layout(
            *(torch.cat([getattr(self, f.name), getattr(other, f.name)], dim=1) for f in fields(self))
        )


@dataclass(frozen=True)
class UndTokens(_Tensors):
    """The understanding stream. `images` fill the True places of `image_slots` in row-major order."""

    token_ids: Int[Tensor, "B U"]
    layout: Layout
    images: Float[Tensor, "N channels P P"] | None = None
    image_slots: Bool[Tensor, "B U"] | None = None

    def __post_init__(self) -> None:
        assert self.token_ids.shape == self.layout.order.shape, "token_ids and layout differ in shape"
        assert (self.images is None) == (self.image_slots is None), "images and image_slots come together"


@dataclass(frozen=True)
class GenTokens(_Tensors):
    """The generation stream: latents row-major over their grid, their times, their places in the 2-D table."""

    latents: Float[Tensor, "B G C"]
    timesteps: Float[Tensor, "B G"]
    grid_ids: Int[Tensor, "B G"]
    layout: Layout

    def __post_init__(self) -> None:
        assert self.latents.shape[:2] == self.timesteps.shape == self.grid_ids.shape, (
            "gen fields differ in shape"
        )


@dataclass(frozen=True)
class Batch(_Tensors):
    """Padded samples.

    `logit_slots` (B, U) says where text logits are wanted. `label_ids` (B, U) holds the next token to predict
    or IGNORE, `label_weights` (B, U) its weight in the loss.
    """

    und: UndTokens
    gen: GenTokens | None = None
    logit_slots: Bool[Tensor, "B U"] | None = None
    label_ids: Int[Tensor, "B U"] | None = None
    label_weights: Float[Tensor, "B U"] | None = None

    @property
    def layout(self) -> Layout:
        """Return the joint layout, und tokens first."""
        return self.und.layout if self.gen is None else self.und.layout.join(self.gen.layout)

    def with_latents(self, latents: Float[Tensor, "B G C"], timesteps: Float[Tensor, "B G"]) -> Batch:
        """Return the batch with other latents and times, for instance after adding noise."""
        assert self.gen is not None, "this batch draws nothing"
        return replace(self, gen=replace(self.gen, latents=latents, timesteps=timesteps))


@dataclass(frozen=True)
class Output(_Tensors):
    """What the model returns.

    `und` (B, U, D): last hidden states after the final norm. `logits` (N, V): at `Batch.logit_slots`, row-major.
    `velocity` (B, G, C): v = noise - picture. `gen_hidden` (B, G, D): output of the asked-for gen layer.
    """

    und: Float[Tensor, "B U D"]
    logits: Float[Tensor, "N V"] | None = None
    velocity: Float[Tensor, "B G C"] | None = None
    gen_hidden: Float[Tensor, "B G D"] | None = None
