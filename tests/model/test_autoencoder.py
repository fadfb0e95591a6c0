"""The kl autoencoder against a plain second writing of its checkpoint's computation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from model import tiny
from unixcxr.config import KlAutoencoderConfig, PatchAutoencoderConfig
from unixcxr.model.autoencoder import KlAutoencoder, build_autoencoder
from unixcxr.model.patch_autoencoder import PatchAutoencoder

CONFIGS = [
    tiny.AUTOENCODER,
    replace(
        tiny.AUTOENCODER,
        in_channels=1,
        width_multipliers=(2, 1, 1),
        num_res_blocks=2,
        attention_levels=(0, 2),
        scale=0.5,
        shift=0.7,
    ),
]


def scrambled(config: KlAutoencoderConfig) -> KlAutoencoder:
    autoencoder = KlAutoencoder(config)
    tiny.scramble(autoencoder)
    return autoencoder


class Plain:
    """Encode and decode from a state dict, one operation a line, group norm written out."""

    def __init__(self, weights: dict[str, Tensor], config: KlAutoencoderConfig) -> None:
        self.weights, self.config = weights, config
        self.num_levels = len(config.width_multipliers)

    def conv(self, name: str, x: Tensor, **options: int) -> Tensor:
        return conv2d(x, self.weights[name + ".weight"], self.weights[name + ".bias"], **options)

    def norm(self, name: str, x: Tensor) -> Tensor:
        groups = x.reshape(len(x), 32, -1)
        mean = groups.mean(dim=2, keepdim=True)
        variance = ((groups - mean) ** 2).mean(dim=2, keepdim=True)
        x = ((groups - mean) / torch.sqrt(variance + 1e-6)).reshape(x.shape)
        return x * self.weights[name + ".weight"][:, None, None] + self.weights[name + ".bias"][:, None, None]

    def block(self, name: str, x: Tensor) -> Tensor:
        h = self.norm(name + ".norm1", x)
        h = self.conv(name + ".conv1", h * torch.sigmoid(h), padding=1)
        h = self.norm(name + ".norm2", h)
        h = self.conv(name + ".conv2", h * torch.sigmoid(h), padding=1)
        shortcut = name + ".nin_shortcut"
        return h + (self.conv(shortcut, x) if shortcut + ".weight" in self.weights else x)

    def attend(self, name: str, x: Tensor) -> Tensor:
        h = self.norm(name + ".norm", x)
        q, k, v = (self.conv(f"{name}.{part}", h).flatten(2) for part in "qkv")  # B c hw
        weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(x.shape[1]), dim=2)
        return x + self.conv(name + ".proj_out", (v @ weights.transpose(1, 2)).reshape(x.shape))

    def middle(self, side: str, x: Tensor) -> Tensor:
        x = self.attend(side + ".mid.attn_1", self.block(side + ".mid.block_1", x))
        return self.block(side + ".mid.block_2", x)

    def level(self, name: str, index: int, x: Tensor, num_blocks: int) -> Tensor:
        for block in range(num_blocks):
            x = self.block(f"{name}.{index}.block.{block}", x)
            if index in self.config.attention_levels:
                x = self.attend(f"{name}.{index}.attn.{block}", x)
        return x

    def moments(self, x: Tensor) -> Tensor:
        x = self.conv("encoder.conv_in", x, padding=1)
        for index in range(self.num_levels):
            x = self.level("encoder.down", index, x, self.config.num_res_blocks)
            if index < self.num_levels - 1:
                padded = torch.zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1, dtype=x.dtype)
                padded[:, :, :-1, :-1] = x
                x = self.conv(f"encoder.down.{index}.downsample.conv", padded, stride=2)
        x = self.norm("encoder.norm_out", self.middle("encoder", x))
        return self.conv("quant_conv", self.conv("encoder.conv_out", x * torch.sigmoid(x), padding=1))

    def decode(self, latents: Tensor) -> Tensor:
        z = latents / self.config.scale + self.config.shift
        x = self.conv("decoder.conv_in", self.conv("post_quant_conv", z), padding=1)
        x = self.middle("decoder", x)
        for index in reversed(range(self.num_levels)):
            x = self.level("decoder.up", index, x, self.config.num_res_blocks + 1)
            if index > 0:
                x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
                x = self.conv(f"decoder.up.{index}.upsample.conv", x, padding=1)
        x = self.norm("decoder.norm_out", x)
        return self.conv("decoder.conv_out", x * torch.sigmoid(x), padding=1)


def plain(autoencoder: KlAutoencoder) -> Plain:
    weights = {name: tensor.double() for name, tensor in autoencoder.state_dict().items()}
    return Plain(weights, autoencoder.config)


@pytest.mark.parametrize("config", CONFIGS, ids=["last level attends", "others attend"])
@torch.no_grad()
def test_encode_and_decode(config: KlAutoencoderConfig) -> None:
    autoencoder = scrambled(config)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, config.in_channels, 8, 16, generator=generator)
    latents = autoencoder.encode(images)
    assert latents.shape == (2, 3, 8 // config.downsample, 16 // config.downsample)
    mean, _ = plain(autoencoder).moments(images.double()).chunk(2, dim=1)
    expected = config.scale * (mean - config.shift)
    assert torch.allclose(latents.double(), expected, atol=2e-5)
    pixels = autoencoder.decode(latents)
    assert pixels.shape == images.shape
    assert torch.allclose(pixels.double(), plain(autoencoder).decode(expected), atol=2e-4)


@torch.no_grad()
def test_sampling_the_posterior() -> None:
    """mean + exp(log variance / 2) noise, the log variance clamped to -30..20."""
    autoencoder = scrambled(tiny.AUTOENCODER)
    bias = autoencoder.quant_conv.bias
    bias[3:] = torch.tensor([-1.0, -100.0, 100.0])
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    mean, log_variance = plain(autoencoder).moments(images.double()).chunk(2, dim=1)
    assert log_variance[0, 1].max() < -30 < 20 < log_variance[0, 2].min()
    deviation = torch.exp(log_variance / 2)
    deviation[0, 1], deviation[0, 2] = math.exp(-15), math.exp(10)
    z = mean + deviation * noise
    expected = autoencoder.config.scale * (z - autoencoder.config.shift)
    assert torch.allclose(autoencoder.encode(images, noise).double(), expected, rtol=1e-4, atol=1e-5)


def test_the_released_size() -> None:
    """kl-f16 with 16 channels: 69,610,963 parameters in 342 tensors."""
    with torch.device("meta"):
        autoencoder = KlAutoencoder(KlAutoencoderConfig())
    sizes = {name: tensor.numel() for name, tensor in autoencoder.state_dict().items()}
    assert len(sizes) == 342
    assert sum(sizes.values()) == 69_610_963
    for part, expected in (("encoder.", 28_265_760), ("decoder.", 41_343_875)):
        assert sum(n for name, n in sizes.items() if name.startswith(part)) == expected
    assert KlAutoencoderConfig().downsample == 16


def test_config_chooses_the_class() -> None:
    assert isinstance(build_autoencoder(tiny.AUTOENCODER), KlAutoencoder)
    assert isinstance(build_autoencoder(PatchAutoencoderConfig()), PatchAutoencoder)
