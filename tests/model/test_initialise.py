"""Starting weights: their spreads, what starts as zero or one, and what the seed decides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model import tiny
from unixcxr.data.collate import collate
from unixcxr.model.layers import sincos_table
from unixcxr.model.unix import UniX, initialise

CONFIG = replace(
    tiny.with_transformer(width=64, mlp_width=96, num_layers=8),
    vision=replace(tiny.VISION, stem="conv", width=32, mlp_width=64),
)


def started(seed: int = 0) -> UniX:
    return initialise(UniX(CONFIG), torch.Generator().manual_seed(seed))


def test_spreads() -> None:
    """0.02 for matrices, divided by sqrt(2 x 8 layers) = 4 where they add to the residual; He for convolutions."""
    model = started()
    block = model.blocks[3]
    for matrix in (model.embed_tokens.weight, block.und.q_proj.weight, block.gen.mlp.up.weight):
        assert matrix.std().item() == pytest.approx(0.02, rel=0.06)
        assert abs(matrix.mean().item()) < 0.002
    for matrix in (block.und.o_proj.weight, block.gen.mlp.down.weight):
        assert matrix.std().item() == pytest.approx(0.005, rel=0.06)
    convolution = model.vision.stem.layers[1].weight
    assert convolution.std().item() == pytest.approx((2 / convolution[0].numel()) ** 0.5, rel=0.06)


def test_norms_are_one_and_biases_and_the_first_velocity_zero() -> None:
    model = started()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name
    assert not model(collate([tiny.SAMPLES["drawing"]], CONFIG)).velocity.any()
    assert torch.equal(model.latent_positions, sincos_table(64, 4))


def test_the_seed_decides() -> None:
    a, b, c = (started(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["embed_tokens.weight"], c["embed_tokens.weight"])
