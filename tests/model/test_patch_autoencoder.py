"""The patch autoencoder: the linear skip is PCA, latents are normalised, pictures of any size go through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from unixcxr.config import PatchAutoencoderConfig
from unixcxr.model.patch_autoencoder import PatchAutoencoder

CONFIG = PatchAutoencoderConfig(latent_channels=5, downsample=8, unshuffle=4, widths=(8, 12), refine_width=4)


def pictures_of_rank(rank: int, count: int = 12, patch: int = 8) -> Tensor:
    """Pictures whose 8 x 8 patches lie in a `rank`-dimensional space off the origin."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(rank, patch**2, generator=generator)
    weights = torch.randn(count, 4, 6, rank, generator=generator)
    patches = 0.1 * weights @ basis + 0.3  # (count, 4, 6, 64)
    return pixel_shuffle(patches.movedim(-1, 1), patch)


def fitted(images: Tensor) -> PatchAutoencoder:
    torch.manual_seed(0)
    autoencoder = PatchAutoencoder(CONFIG)
    autoencoder.fit_patches([images])
    return autoencoder


@torch.no_grad()
def test_pictures_of_as_many_dimensions_as_latents_come_back() -> None:
    images = pictures_of_rank(CONFIG.latent_channels)
    autoencoder = fitted(images)
    assert torch.allclose(autoencoder.decode(autoencoder.encode(images)), images, atol=1e-4)


@torch.no_grad()
def test_untrained_reconstruction_is_the_best_linear_one() -> None:
    images = pictures_of_rank(9)
    autoencoder = fitted(images)
    patches = pixel_unshuffle(images, 8).movedim(1, -1).flatten(0, 2)
    centred = patches - patches.mean(dim=0)
    u, s, v = torch.linalg.svd(centred, full_matrices=False)
    kept = CONFIG.latent_channels
    best = (u[:, :kept] * s[:kept]) @ v[:kept] + patches.mean(dim=0)
    error = (autoencoder.decode(autoencoder.encode(images)) - images).square().mean()
    assert error.item() == pytest.approx((best - patches).square().mean().item(), rel=1e-3)
    assert error > 1e-4


@torch.no_grad()
def test_latents_are_white_after_fitting_and_normalised_after_training() -> None:
    images = pictures_of_rank(9)
    autoencoder = fitted(images)
    latents = autoencoder.encode(images).movedim(1, -1).flatten(0, 2)
    assert torch.allclose(latents.T @ latents / len(latents), torch.eye(CONFIG.latent_channels), atol=1e-3)
    for parameter in autoencoder.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    decoded = autoencoder.decode(autoencoder.encode(images))
    autoencoder.fit_latents([images[:6], images[6:]])
    latents = autoencoder.encode(images).movedim(1, -1).flatten(0, 2)
    assert latents.mean(dim=0).abs().max() < 1e-4
    assert torch.allclose(latents.std(dim=0), torch.ones(CONFIG.latent_channels), atol=1e-3)
    assert torch.allclose(autoencoder.decode(autoencoder.encode(images)), decoded, atol=1e-4)


@torch.no_grad()
def test_a_component_without_variance_stays_zero() -> None:
    images = pictures_of_rank(3)
    autoencoder = fitted(images)
    latents = autoencoder.encode(images)
    assert torch.isfinite(latents).all()
    assert latents[:, 3:].abs().max() == 0
    assert torch.allclose(autoencoder.decode(latents), images, atol=1e-4)


@torch.no_grad()
def test_shapes_at_two_sizes() -> None:
    autoencoder = fitted(pictures_of_rank(9))
    for height, width in ((16, 24), (64, 32)):
        latents = autoencoder.encode(torch.zeros(2, 1, height, width))
        assert latents.shape == (2, 5, height // 8, width // 8)
        assert autoencoder.decode(latents).shape == (2, 1, height, width)


@torch.no_grad()
def test_a_latent_sees_its_neighbourhood_only() -> None:
    """Cutting a picture far away leaves a latent as it was: nothing is normalised over the whole picture."""
    autoencoder = fitted(pictures_of_rank(9))
    for parameter in autoencoder.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.randn(1, 1, 128, 128)
    whole, part = autoencoder.encode(images), autoencoder.encode(images[..., :64])
    assert torch.allclose(whole[..., 0], part[..., 0], atol=1e-4)
    assert not torch.allclose(whole[..., 7], part[..., 7], atol=1e-4)


@torch.no_grad()
def test_saved_state_gives_the_same_pictures() -> None:
    autoencoder = fitted(pictures_of_rank(9))
    autoencoder.fit_latents([pictures_of_rank(9)])
    other = PatchAutoencoder(CONFIG)
    other.load_state_dict(autoencoder.state_dict())
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(other.decode(other.encode(images)), autoencoder.decode(autoencoder.encode(images)))
