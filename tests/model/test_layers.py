"""Norms, rotary positions, time and place tables against closed forms and loops."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch.nn.functional import gelu

from unixcxr.config import VisionConfig
from unixcxr.model.layers import (
    RMSNorm,
    SwiGLU,
    TimeEmbedding,
    rope_table,
    rotate,
    sincos_table,
    time_features,
)
from unixcxr.model.vision import Connector, VisionTower


def test_rms_norm_by_hand() -> None:
    norm = RMSNorm(2, eps=1.0)
    norm.weight.data = torch.tensor([2.0, -1.0])
    # mean square of (3, 1) is 5, plus eps 6
    expected = [6 / math.sqrt(6), -1 / math.sqrt(6)]
    assert norm(torch.tensor([[3.0, 1.0]]))[0].tolist() == pytest.approx(expected)


def test_rms_norm_is_float32_inside() -> None:
    """In bfloat16, 256 squares of 1.0 summed one by one stop at 256; the norm must not lose them."""
    x = torch.ones(1, 4096, dtype=torch.bfloat16) * 300
    assert torch.equal(RMSNorm(4096, 0.0).bfloat16()(x), torch.ones_like(x))
    assert RMSNorm(4, 1e-6).bfloat16()(x[:, :4]).dtype == torch.bfloat16


def test_swiglu_by_hand() -> None:
    mlp = SwiGLU(1, 1)
    for layer, value in ((mlp.gate, 2.0), (mlp.up, 3.0), (mlp.down, 5.0)):
        layer.weight.data.fill_(value)
    sigmoid = 1 / (1 + math.exp(-2))
    assert mlp(torch.ones(1, 1, 1)).item() == pytest.approx(5 * (2 * sigmoid) * 3)


@pytest.mark.parametrize("theta", [10000.0, 20.0])
def test_rotary_positions_turn_complex_pairs(theta: float) -> None:
    x = torch.randn(1, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[0, 1, 7, 500]])
    turned = rotate(x, *rope_table(positions, 6, theta, rounded=False))
    assert torch.equal(turned[0, 0, 0], x[0, 0, 0])
    for place, position in enumerate(positions[0].tolist()):
        for k in range(3):
            before = complex(x[0, 0, place, k], x[0, 0, place, k + 3])
            after = before * cmath.exp(1j * position * theta ** (-k / 3))
            found = complex(turned[0, 0, place, k], turned[0, 0, place, k + 3])
            assert found == pytest.approx(after, abs=2e-4)


def test_scores_depend_on_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(1))

    def score(at: int, to: int) -> float:
        tables = [rope_table(torch.tensor([[p]]), 8, 10000.0, rounded=False) for p in (at, to)]
        return float((rotate(q, *tables[0]) * rotate(k, *tables[1])).sum())

    assert score(5, 3) == pytest.approx(score(105, 103), abs=1e-4)
    assert score(5, 3) != pytest.approx(score(5, 2), abs=1e-2)


def test_rounded_frequencies_drift_as_the_released_model_s_do() -> None:
    """At head size 128 the angles are off by about 0.02, 0.24 and 0.61 rad at positions 17, 200 and 500."""
    exact = 10000.0 ** (-torch.arange(64, dtype=torch.float64) / 64)
    drift = [float((exact.bfloat16().double() - exact).abs().max() * p) for p in (17, 200, 500)]
    assert drift == pytest.approx([0.02, 0.24, 0.61], rel=0.1)
    for position, expected in zip((17, 200, 500), drift, strict=True):
        cos, sin = (
            table[0, 0, 0, :64].double()
            for table in rope_table(torch.tensor([[position]]), 128, 10000.0, rounded=True)
        )
        angles = torch.remainder(torch.atan2(sin, cos) - position * exact + math.pi, 2 * math.pi) - math.pi
        assert float(angles.abs().max()) == pytest.approx(expected, rel=1e-2)


def test_time_features_by_hand() -> None:
    features = time_features(torch.tensor([[0.0, 0.75]]))
    assert features.shape == (1, 2, 256)
    assert features[0, 0].tolist() == [1.0] * 128 + [0.0] * 128
    for k in (0, 1, 64, 127):
        frequency = math.exp(-math.log(10000) * k / 128)
        assert features[0, 1, k].item() == pytest.approx(math.cos(0.75 * frequency), abs=1e-6)
        assert features[0, 1, 128 + k].item() == pytest.approx(math.sin(0.75 * frequency), abs=1e-6)


def test_times_are_told_apart_beside_bfloat16_weights() -> None:
    """0.7 and 0.701 are one number in bfloat16 but two times: features are float32 before the first layer."""
    times = torch.tensor([0.7, 0.701])
    assert times.bfloat16().unique().numel() == 1
    first, second = time_features(times)
    assert first.dtype == torch.float32
    assert (first - second).abs().max() > 5e-4
    assert TimeEmbedding(8).bfloat16()(times).dtype == torch.bfloat16


def test_place_table_by_hand() -> None:
    """First half of the width the column, second the row, each [sin | cos]."""
    table = sincos_table(12, 3)
    assert table.shape == (9, 12)
    for row in range(3):
        for column in range(3):
            angles = [[place * 10000 ** (-k / 3) for k in range(3)] for place in (column, row)]
            expected = [f(a) for half in angles for f in (math.sin, math.cos) for a in half]
            assert table[row * 3 + column].tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("kind", ["tanh", "erf"])
def test_connector_activation(kind: str) -> None:
    """The two differ by up to 4.7e-4: enough to tell which one ran."""
    x = torch.linspace(-4, 4, 101)[None, :, None]
    connector = Connector(VisionConfig(width=1, num_heads=1, connector_gelu=kind), 1)
    for layer in (connector.hidden, connector.out):
        layer.weight.data.fill_(1.0)
        layer.bias.data.zero_()
    expected = gelu(x, approximate="tanh" if kind == "tanh" else "none")
    assert torch.equal(connector(x), expected)
    assert (gelu(x) - gelu(x, approximate="tanh")).abs().max() == pytest.approx(4.7e-4, rel=0.05)


@pytest.mark.parametrize(("patch_size", "width", "channels"), [(8, 16, 1), (16, 40, 3), (32, 64, 1)])
def test_conv_stem_gives_one_vector_a_patch(patch_size: int, width: int, channels: int) -> None:
    config = VisionConfig(
        image_size_px=2 * patch_size,
        patch_size=patch_size,
        in_channels=channels,
        width=width,
        num_layers=1,
        num_heads=2,
        mlp_width=8,
        stem="conv",
    )
    tower = VisionTower(config)
    images = torch.randn(2, channels, 2 * patch_size, 2 * patch_size)
    assert tower.stem(images).shape == (2, width, 2, 2)
    assert tower(images).shape == (2, 4, width)
    alone = torch.cat([tower(image[None]) for image in images])
    assert torch.allclose(tower(images), alone, atol=1e-5)
