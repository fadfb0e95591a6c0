"""Foreign names: the full-size table covered both ways, on shapes alone."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch

from model import released, tiny
from unixcxr.config import KlAutoencoderConfig, ModelConfig
from unixcxr.errors import ModelError
from unixcxr.model import foreign
from unixcxr.model.unix import UniX

FULL = released.released_shapes(released.FULL)


def total(shapes: released.Shapes, *prefixes: str) -> int:
    return sum(prod(shape) for name, shape in shapes.items() if name.startswith(prefixes or ""))


def test_the_table_has_the_released_counts() -> None:
    """So that what the map is held to is the released model."""
    assert len(FULL) == 996
    assert total(FULL) == 3_216_835_600
    assert total(FULL, "language_model.") == 2_886_189_056
    assert sum(prod(s) for n, s in FULL.items() if "_moe_gen" in n) == 1_233_379_328
    assert total(FULL, "vit_model.") == 316_283_904
    assert total(FULL, "vit_model.vision_tower.attn_pool.") == 12_595_200
    assert total(FULL, "connector.") == 6_295_552
    assert total(FULL, "time_embedder.") == 4_722_688
    assert (total(FULL, "vae2llm."), total(FULL, "llm2vae.")) == (34_816, 32_784)
    assert (total(FULL, "latent_pos"), total(FULL, "vit_pos")) == (2_097_152, 1_179_648)


def test_the_full_model_covers_the_table_and_nothing_is_left_over() -> None:
    with torch.device("meta"):
        model = UniX(ModelConfig())
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    used = {name: shape for name, shape in FULL.items() if not foreign.is_unused(name)}
    assert {foreign.native_name(name) for name in used} == ours.keys()
    assert {foreign.released_name(name) for name in ours} == used.keys()
    for name, shape in used.items():
        native = foreign.native_name(name)
        assert native is not None
        assert foreign.released_name(native) == name
        assert ours[native] == (shape[1:] if name.endswith("vision_tower.pos_embed") else shape)
    # what plays no part: the tower's pooling and a position table that is never read
    assert total(ours) == 3_216_835_600 - 12_595_200 - 1_179_648


def test_unknown_and_unused_names() -> None:
    for name in (
        "language_model.model.layers.0.self_attn.q_proj_moe.weight",
        "language_model.model.layers.x.input_layernorm.weight",
        "vit_model.vision_tower.blocks.0.norm3.weight",
        "something.weight",
    ):
        assert foreign.native_name(name) is None
        assert not foreign.is_unused(name)
    assert foreign.is_unused("language_model.model.repa_loss_fn.projectors.0.mlp.4.weight")
    with pytest.raises(ModelError, match=r"vision\.stem\.layers\.1\.weight.*no place"):
        foreign.released_name("vision.stem.layers.1.weight")


@pytest.mark.parametrize("values", [{}, {"language_config": {}, "vision_config": {"params": {}}}])
def test_sizes_are_read_off_the_shapes(values: dict[str, object]) -> None:
    """With an empty config.json the full-size table still describes the released model."""
    config = foreign.released_config(FULL, values, KlAutoencoderConfig())
    default = ModelConfig()
    assert config.transformer == replace(default.transformer, rope_frequencies="dtype")
    assert config.vision == replace(default.vision, connector_gelu="tanh")
    assert config.tokens == replace(default.tokens, doubled_bos=True)
    assert (config.latent_grid, config.autoencoder) == (32, default.autoencoder)
    assert (config.sampling, config.preprocessing.transform) == (default.sampling, "released")


@pytest.mark.parametrize("values", [released.JANUS_CONFIG, released.UNIX_CONFIG], ids=["janus", "unix"])
def test_both_kinds_of_config_describe_the_tiny_model(values: dict[str, object]) -> None:
    shapes = released.released_shapes(released.TINY)
    config = foreign.released_config(shapes, values, tiny.AUTOENCODER)
    expected = tiny.RELEASABLE
    assert config.vision == expected.vision
    assert config.transformer == expected.transformer
    assert (config.tokens, config.latent_grid) == (expected.tokens, expected.latent_grid)
    assert config.sampling.size_px == 8  # no larger than its position table


def test_the_written_config_says_all_that_is_read() -> None:
    """Settings that shapes do not show survive the released config.json."""
    config = replace(
        tiny.with_transformer(
            tiny.RELEASABLE, rope_theta=500.0, norm_eps=1e-5, context_length=99, num_heads=2, num_kv_heads=1
        ),
        stretch_positions=True,
    )
    with torch.device("meta"):
        model = UniX(config)
    shapes = {foreign.released_name(n): tuple(t.shape) for n, t in model.state_dict().items()}
    shapes["vit_model.vision_tower.pos_embed"] = (1, 4, 16)
    back = foreign.released_config(shapes, foreign.released_json(config), tiny.AUTOENCODER)
    assert back.transformer == config.transformer
    assert back.vision == config.vision
    assert (back.stretch_positions, back.tokens) == (True, config.tokens)


@pytest.mark.parametrize(
    ("config", "lacking"),
    [
        (tiny.with_transformer(tied_text_head=True), "an own text head"),
        (tiny.with_transformer(qkv_bias=False), "projection biases"),
        (replace(tiny.CONFIG, vision=replace(tiny.VISION, stem="conv")), "a patch stem"),
        (replace(tiny.CONFIG, autoencoder=replace(tiny.AUTOENCODER, scale=1.0)), "a kl autoencoder"),
    ],
)
def test_what_the_layout_cannot_say_is_refused(config: ModelConfig, lacking: str) -> None:
    with pytest.raises(ModelError, match=f"without {lacking} as released"):
        foreign.require_releasable(config)
    foreign.require_releasable(tiny.CONFIG)


def test_a_missing_first_tensor_of_a_layer_leaves_no_shorter_model() -> None:
    shapes = released.released_shapes(released.TINY)
    del shapes["language_model.model.layers.1.self_attn.q_proj.weight"]
    del shapes["vit_model.vision_tower.blocks.0.norm1.weight"]
    config = foreign.released_config(shapes, released.JANUS_CONFIG, tiny.AUTOENCODER)
    assert (config.transformer.num_layers, config.vision.num_layers) == (3, 2)


def test_janus_names_fill_both_streams() -> None:
    shapes = released.janus_shapes(released.FULL)
    with torch.device("meta"):
        model = UniX(ModelConfig())
    ours = model.state_dict().keys()
    filled = [name for theirs in shapes for name in foreign.janus_names(theirs)]
    assert len(filled) == len(set(filled))
    fresh = {name for name in ours if foreign.is_new_to_janus(name)}
    assert set(filled) | fresh == ours
    assert not fresh & set(filled)
    for theirs in shapes:
        assert bool(foreign.janus_names(theirs)) != foreign.is_unused_in_janus(theirs)
    assert foreign.janus_names("language_model.model.layers.7.mlp.up_proj.weight") == [
        "blocks.7.und.mlp.up.weight",
        "blocks.7.gen.mlp.up.weight",
    ]
    assert foreign.janus_names("language_model.model.norm.weight") == ["norm_und.weight", "norm_gen.weight"]
    assert foreign.janus_names("aligner.layers.0.bias") == ["connector.hidden.bias"]
    assert not foreign.is_released(shapes)
    assert foreign.is_janus(shapes)
