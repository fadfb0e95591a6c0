"""Representation alignment: closed forms, and the released variant beside it."""

from __future__ import annotations

import math

import pytest
import torch

from unixcxr.model.align import AlignmentProjector, alignment_loss, released_alignment_loss


def test_same_direction_is_minus_one_whatever_the_length() -> None:
    features = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    for scale in (1.0, 7.0):
        assert alignment_loss(scale * features, (2, 3), features, (2, 3)).item() == pytest.approx(-1)
        assert alignment_loss(-scale * features, (2, 3), features, (2, 3)).item() == pytest.approx(1)


def test_mean_over_images_and_tokens_by_hand() -> None:
    projected = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 3.0], [1.0, 0.0]]])
    features = torch.tensor([[[5.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]]])
    expected = -(1 + 0 + math.sqrt(0.5) - 1) / 4
    assert alignment_loss(projected, (1, 2), features, (1, 2)).item() == pytest.approx(expected)


def test_a_coarser_encoder_grid_is_interpolated_in_two_dimensions() -> None:
    """A 2 x 2 grid stretched to 4 x 4: columns and rows blend bilinearly, half pixels at the edges."""
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])  # each row: left x, right y
    share = [0.0, 0.25, 0.75, 1.0]  # how much of the right column each of four columns holds
    projected = torch.tensor([[[1 - s, s] for _ in range(4) for s in share]])
    assert alignment_loss(projected, (4, 4), features, (2, 2)).item() == pytest.approx(-1, abs=1e-6)
    upright = torch.tensor([[[1 - s, s] for s in share for _ in range(4)]])
    assert alignment_loss(upright, (4, 4), features, (2, 2)).item() > -0.9


def test_the_released_variant_divides_by_the_batch_twice() -> None:
    features = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    assert released_alignment_loss(features, features).item() == pytest.approx(-1 / 4)


def test_the_released_variant_interpolates_projections_in_one_dimension() -> None:
    """Two unit vectors stretched to four tokens, shorter in between and not normalised again."""
    projected = torch.tensor([[[2.0, 0.0], [0.0, 9.0]]])
    features = torch.tensor([[[1.0, 0.0]] * 4])
    expected = -(1 + 0.75 + 0.25 + 0) / 4
    assert released_alignment_loss(projected, features).item() == pytest.approx(expected)


def test_projector_is_three_layers_with_silu() -> None:
    projector = AlignmentProjector(3, 4, hidden_width=5)
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    weights = dict(projector.named_parameters())
    h = x
    for index in (0, 2, 4):
        h = h @ weights[f"layers.{index}.weight"].T + weights[f"layers.{index}.bias"]
        h = h if index == 4 else h * torch.sigmoid(h)
    assert torch.allclose(projector(x), h, atol=1e-6)


def test_projector_of_the_released_size() -> None:
    """9,966,336 parameters for widths 2048, 2048, 2048, 768."""
    with torch.device("meta"):
        projector = AlignmentProjector(2048, 768)
    assert sum(p.numel() for p in projector.parameters()) == 9_966_336
