"""Config: strict keys with the nearest name, a JSON round trip, impossible sizes refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import tiny
from unixcxr.config import (
    KlAutoencoderConfig,
    ModelConfig,
    PatchAutoencoderConfig,
    SamplingConfig,
    TransformerConfig,
    VisionConfig,
    from_mapping,
    to_mapping,
)
from unixcxr.errors import ConfigError
from unixcxr.model.unix import UniX


def mapping(**changes: Any) -> dict[str, Any]:
    """Return a valid mapping with some sections' settings changed, as `section={"setting": value}`."""
    values = to_mapping(tiny.CONFIG)
    for name, change in changes.items():
        values[name] = {**values[name], **change} if isinstance(change, dict) else change
    return values


CONFIGS = {
    "default": ModelConfig(),
    "tiny": tiny.CONFIG,
    "patch autoencoder": replace(tiny.CONFIG, autoencoder=PatchAutoencoderConfig(latent_channels=8)),
    "embedded options": replace(
        tiny.with_transformer(tied_text_head=True),
        vision=VisionConfig(
            in_channels=1, stem="conv", image_size_px=64, num_layers=1, width=64, num_heads=2
        ),
        stretch_positions=True,
        sampling=SamplingConfig(guidance_interval=(0.0, 1.0), solver="heun", renorm="channel"),
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_json_round_trip(config: ModelConfig) -> None:
    text = json.dumps(to_mapping(config))
    assert from_mapping(ModelConfig, json.loads(text)) == config


@given(
    st.builds(
        TransformerConfig,
        num_heads=st.sampled_from([2, 4, 6]),
        num_kv_heads=st.just(2),
        width=st.sampled_from([24, 48]),
        rope_theta=st.floats(1, 1e6),
        norm_eps=st.floats(1e-12, 1),
        vocab_size=st.integers(1000, 200000),
        qkv_bias=st.booleans(),
        rope_frequencies=st.sampled_from(["float32", "bfloat16", "dtype"]),
    )
)
def test_json_round_trip_of_any_transformer(config: TransformerConfig) -> None:
    assert from_mapping(TransformerConfig, json.loads(json.dumps(to_mapping(config)))) == config


@pytest.mark.parametrize(
    ("changes", "found", "nearest"),
    [
        ({"latent_gird": 4}, "latent_gird", "latent_grid"),
        ({"transformer": {"num_kv_head": 2}}, "transformer.num_kv_head", "num_kv_heads"),
        ({"autoencoder": {"base_widht": 32}}, "base_widht", "base_width"),
        ({"sampling": {"guidance": 3.0}}, "sampling.guidance", "guidance_scale"),
    ],
)
def test_unknown_keys_suggest_the_nearest(changes: dict[str, Any], found: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(ModelConfig, mapping(**changes), source="here/config.json")
    message = str(caught.value)
    assert message.startswith("here/config.json: unknown setting ")
    assert f"{found}'" in message
    assert message.endswith(f"did you mean '{nearest}'?")
    assert "\n" not in message


def test_an_unknown_key_like_nothing_suggests_nothing() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'xyzzy'$"):
        from_mapping(ModelConfig, mapping(xyzzy=1))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "patches that do not tile": ({"vision": {"image_size_px": 20}}, "no multiple of patch_size 8"),
    "vision heads": ({"vision": {"num_heads": 3}}, "no multiple of num_heads 3"),
    "conv stem of small patches": ({"vision": {"stem": "conv", "patch_size": 4}}, "conv stem"),
    "conv stem of odd width": (
        {"vision": {"stem": "conv", "width": 36}},
        "[32, 36], which must be multiples of 8",
    ),
    "heads": ({"transformer": {"num_heads": 5, "num_kv_heads": 5}}, "num_heads 5"),
    "odd head size": ({"transformer": {"num_heads": 8, "num_kv_heads": 8}}, "even head size"),
    "head groups": ({"transformer": {"num_kv_heads": 3}}, "no multiple of num_kv_heads 3"),
    "width without quarters": ({"transformer": {"width": 6, "num_heads": 1, "num_kv_heads": 1}}, "of 4"),
    "no layers": ({"transformer": {"num_layers": 0}}, "greater than 0"),
    "a name for a number": ({"transformer": {"width": "wide"}}, "found 'wide'"),
    "autoencoder groups": ({"autoencoder": {"base_width": 24}}, "multiples of 32"),
    "attention beyond the levels": ({"autoencoder": {"attention_levels": [2]}}, "attention_levels"),
    "unknown autoencoder": ({"autoencoder": {"kind": "vq"}}, "autoencoder"),
    "patch autoencoder": (
        {"autoencoder": {**to_mapping(PatchAutoencoderConfig()), "downsample": 8}},
        "not 8",
    ),
    "special ids beyond the vocabulary": (
        {"tokens": {"eos": 320}},
        "config.json: special token ids (316, 320, 318, 319) do not fit a vocabulary of 320",
    ),
    "negative ids": ({"tokens": {"bos": -1}}, "do not fit"),
    "unknown renorm": ({"sampling": {"renorm": "local"}}, "found 'local'"),
    "a later format": ({"format_version": 2}, "format_version"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    if "kind" in changes.get("autoencoder", {}):
        values = {**to_mapping(tiny.CONFIG), "autoencoder": changes["autoencoder"]}
    else:
        values = mapping(**changes)
    with pytest.raises(ConfigError) as caught:
        from_mapping(ModelConfig, values, source="config.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_is_accepted_can_be_built() -> None:
    """The smallest sizes that the checks let through."""
    config = from_mapping(
        ModelConfig,
        mapping(
            vision={"stem": "conv", "width": 8, "num_heads": 1, "image_size_px": 8},
            transformer={"width": 4, "num_heads": 2, "num_kv_heads": 1},
        ),
    )
    assert UniX(config).latent_positions.shape == (16, 4)


def test_derived_sizes() -> None:
    config = ModelConfig()
    assert (config.vision.grid_size, config.vision.num_tokens) == (24, 576)
    assert config.transformer.head_size == 128
    assert config.autoencoder.downsample == 16
    assert KlAutoencoderConfig(width_multipliers=(1,), attention_levels=()).downsample == 1
