"""Moving a batch between devices and dtypes, and refusing fields that do not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model import tiny
from unixcxr.batch import Layout
from unixcxr.data.collate import collate

BATCH = collate(list(tiny.SAMPLES.values()), tiny.CONFIG)


def test_moving_changes_the_dtype_of_pixels_and_latents_alone(device: str) -> None:
    moved = BATCH.to(device, torch.bfloat16)
    assert moved.gen is not None
    assert moved.und.images is not None
    assert moved.label_weights is not None
    assert moved.und.images.dtype == moved.gen.latents.dtype == torch.bfloat16
    assert moved.gen.timesteps.dtype == moved.label_weights.dtype == torch.float32
    assert moved.und.token_ids.dtype == torch.int64
    assert moved.und.layout.noisy.dtype == torch.bool
    assert moved.und.layout.order.device.type == moved.gen.latents.device.type == device


def test_moving_without_a_dtype_keeps_every_value() -> None:
    moved = BATCH.to("cpu")
    assert torch.equal(moved.gen.latents, BATCH.gen.latents)
    assert torch.equal(moved.layout.positions, BATCH.layout.positions)


def test_joint_layout_is_und_then_gen() -> None:
    joint = BATCH.layout
    num_und = BATCH.und.token_ids.shape[1]
    assert torch.equal(joint.order[:, :num_und], BATCH.und.layout.order)
    assert torch.equal(joint.noisy[:, num_und:], BATCH.gen.layout.noisy)


def test_other_latents_replace_nothing_else() -> None:
    latents, times = torch.ones_like(BATCH.gen.latents), torch.rand(BATCH.gen.timesteps.shape)
    other = BATCH.with_latents(latents, times)
    assert other.gen is not None
    assert other.gen.latents is latents
    assert other.gen.timesteps is times
    assert other.gen.grid_ids is BATCH.gen.grid_ids
    assert other.und is BATCH.und
    with pytest.raises(AssertionError, match="draws nothing"):
        replace(BATCH, gen=None).with_latents(latents, times)


def test_fields_that_do_not_fit_are_our_mistake() -> None:
    short = BATCH.und.layout
    short = Layout(short.positions[:, 1:], short.order[:, 1:], short.noisy[:, 1:])
    with pytest.raises(AssertionError, match="layout differ"):
        replace(BATCH.und, layout=short)
    with pytest.raises(AssertionError, match="come together"):
        replace(BATCH.und, images=None)
    with pytest.raises(AssertionError, match="gen fields"):
        replace(BATCH.gen, timesteps=BATCH.gen.timesteps[:, 1:])
    with pytest.raises(AssertionError, match="layout fields"):
        replace(short, noisy=BATCH.und.layout.noisy)
