"""Foreign checkpoints: the released UniX layout and Janus-Pro's. The one place that knows their names.

Pure functions on names, shapes and parsed JSON; `weights.py` touches the files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from unixcxr.config import (
    KlAutoencoderConfig,
    ModelConfig,
    PreprocessingConfig,
    SamplingConfig,
    TokenConfig,
    TransformerConfig,
    VisionConfig,
)
from unixcxr.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]

_STREAM_PARTS = {
    "input_layernorm{}": "attn_norm",
    "self_attn.q_proj{}": "q_proj",
    "self_attn.k_proj{}": "k_proj",
    "self_attn.v_proj{}": "v_proj",
    "self_attn.o_proj{}": "o_proj",
    "self_attn.q_norm{}": "q_norm",
    "self_attn.k_norm{}": "k_norm",
    "post_attention_layernorm{}": "mlp_norm",
    "mlp{}.gate_proj": "mlp.gate",
    "mlp{}.up_proj": "mlp.up",
    "mlp{}.down_proj": "mlp.down",
}
_VISION_PARTS = {
    "norm1": "attn_norm",
    "attn.qkv": "qkv",
    "attn.proj": "out",
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp_up",
    "mlp.fc2": "mlp_down",
}
_PLAIN = {
    "language_model.model.embed_tokens": "embed_tokens",
    "language_model.model.norm": "norm_und",
    "language_model.model.norm_moe_gen": "norm_gen",
    "language_model.lm_head": "text_head",
    "time_embedder.mlp.0": "time_embed.hidden",
    "time_embedder.mlp.2": "time_embed.out",
    "vae2llm": "latent_in",
    "llm2vae": "latent_out",
    "vit_model.vision_tower.patch_embed.proj": "vision.stem",
    "vit_model.vision_tower.norm": "vision.norm",
    "connector.layers.0": "connector.hidden",
    "connector.layers.2": "connector.out",
}
_WHOLE = {
    "latent_pos_embed.pos_embed": "latent_positions",
    "vit_model.vision_tower.pos_embed": "vision.positions",
}
_UNUSED = ("vit_model.vision_tower.attn_pool.", "vit_pos_embed.", "language_model.model.repa_loss_fn.")
_NEW_TO_JANUS = re.compile(
    r"blocks\.\d+\.(und|gen)\.([qk]_norm\.weight|[qkv]_proj\.bias)|time_embed\..+|latent_(in|out)\..+|latent_positions"
)
_JANUS_UNUSED = ("gen_vision_model.", "gen_aligner.", "gen_head.", "gen_embed.")

LICENCE_NOTE = "The weights keep the licence of their release."

VIT_POSITIONS = "vit_pos_embed.pos_embed"
"""A table that the released code registers and never reads; it is written for other readers of the layout."""


def is_released(shapes: Shapes) -> bool:
    """Say whether these are the weights of a released UniX model (it alone has a second stream)."""
    return any("_moe_gen" in name for name in shapes)


def is_janus(shapes: Shapes) -> bool:
    """Say whether these are the weights of a Janus-Pro model."""
    return "aligner.layers.0.weight" in shapes


def is_unused(name: str) -> bool:
    """Say whether a released tensor plays no part in reading or drawing."""
    return name.startswith(_UNUSED)


def native_name(name: str) -> str | None:
    """Return our name of a released tensor, or None when the model has no such tensor."""
    if name in _WHOLE:
        return _WHOLE[name]
    stem, _, kind = name.rpartition(".")
    if stem in _PLAIN:
        return f"{_PLAIN[stem]}.{kind}"
    layer = re.fullmatch(r"language_model\.model\.layers\.(\d+)\.(.+)", stem)
    if layer:
        part, stream = layer[2].replace("_moe_gen", "{}"), "gen"
        if part == layer[2]:
            part, stream = _with_slot(layer[2]), "und"
        return f"blocks.{layer[1]}.{stream}.{_STREAM_PARTS[part]}.{kind}" if part in _STREAM_PARTS else None
    block = re.fullmatch(r"vit_model\.vision_tower\.blocks\.(\d+)\.(.+)", stem)
    if block and block[2] in _VISION_PARTS:
        return f"vision.blocks.{block[1]}.{_VISION_PARTS[block[2]]}.{kind}"
    return None


def released_name(name: str) -> str:
    """Return the released name of one of our tensors."""
    whole = {ours: theirs for theirs, ours in _WHOLE.items()}
    if name in whole:
        return whole[name]
    stem, _, kind = name.rpartition(".")
    plain = {ours: theirs for theirs, ours in _PLAIN.items()}
    if stem in plain:
        return f"{plain[stem]}.{kind}"
    layer = re.fullmatch(r"blocks\.(\d+)\.(und|gen)\.(.+)", stem)
    if layer:
        theirs = {ours: theirs for theirs, ours in _STREAM_PARTS.items()}[layer[3]]
        suffix = "_moe_gen" if layer[2] == "gen" else ""
        return f"language_model.model.layers.{layer[1]}.{theirs.format(suffix)}.{kind}"
    block = re.fullmatch(r"vision\.blocks\.(\d+)\.(.+)", stem)
    if block:
        theirs = {ours: theirs for theirs, ours in _VISION_PARTS.items()}[block[2]]
        return f"vit_model.vision_tower.blocks.{block[1]}.{theirs}.{kind}"
    raise ModelError(
        f"tensor {name!r} has no place in the released layout (an embedded architecture cannot be converted)"
    )


def janus_names(name: str) -> list[str]:
    """Return our names of a Janus-Pro tensor: its language model starts both streams; [] when it is not used."""
    renamed = re.sub(r"^vision_model\.", "vit_model.", re.sub(r"^aligner\.", "connector.", name))
    ours = native_name(renamed)
    if ours is None:
        return []
    if ours.startswith("norm_und"):
        return [ours, ours.replace("norm_und", "norm_gen")]
    return [ours, ours.replace(".und.", ".gen.")] if ".und." in ours else [ours]


def is_unused_in_janus(name: str) -> bool:
    """Say whether a Janus-Pro tensor plays no part here: its own image tokeniser and heads, the pooling."""
    return name.startswith(_JANUS_UNUSED) or name.startswith("vision_model.vision_tower.attn_pool.")


def is_new_to_janus(name: str) -> bool:
    """Say whether one of our tensors has no source in a Janus-Pro model: drawing, QK-norms, projection biases."""
    return _NEW_TO_JANUS.fullmatch(name) is not None


def require_releasable(config: ModelConfig) -> None:
    """Raise ModelError when the released layout cannot say what this config says."""
    transformer, vision, autoencoder = config.transformer, config.vision, config.autoencoder
    fixed = {
        "a kl autoencoder": isinstance(autoencoder, KlAutoencoderConfig)
        and (autoencoder.scale, autoencoder.shift) == (KlAutoencoderConfig.scale, KlAutoencoderConfig.shift),
        "a patch stem": vision.stem == "patch" and vision.norm_eps == VisionConfig.norm_eps,
        "projection biases": transformer.qkv_bias,
        "an own text head": not transformer.tied_text_head,
    }
    lacking = [name for name, holds in fixed.items() if not holds]
    if lacking:
        raise ModelError(
            f"model {config.name!r} has no place in the released layout, which has {', '.join(fixed)}; "
            f"this one is without {', '.join(lacking)} as released"
        )


def released_config(
    shapes: Shapes, values: Mapping[str, Any], autoencoder: KlAutoencoderConfig
) -> ModelConfig:
    """Describe a released UniX or Janus-Pro model from its tensor shapes and its parsed config.json.

    Sizes come from the shapes, which cannot lie; heads of the vision tower, special ids and the rest from the
    config, and otherwise from the constants that the released code holds.
    """
    prefix = "vit_model" if any(n.startswith("vit_model.") for n in shapes) else "vision_model"
    oracle = values.get("oracle", {})
    ids = oracle.get("new_token_ids", {})
    tokens = TokenConfig(doubled_bos=True)
    if ids:
        tokens = TokenConfig(
            bos=ids["bos_token_id"],
            eos=ids["eos_token_id"],
            start_of_image=ids["start_of_image"],
            end_of_image=ids["end_of_image"],
            doubled_bos=True,
        )
    latent_grid = int(values.get("max_latent_size", oracle.get("max_latent_size", 32)))
    if "latent_pos_embed.pos_embed" in shapes:
        latent_grid = math.isqrt(shapes["latent_pos_embed.pos_embed"][0])
    return ModelConfig(
        name="unix" if is_released(shapes) else "janus-pro",
        vision=_vision_config(shapes, values, prefix),
        transformer=_transformer_config(shapes, values),
        autoencoder=autoencoder,
        latent_grid=latent_grid,
        stretch_positions=bool(values.get("interpolate_pos", False)),
        tokens=tokens,
        preprocessing=PreprocessingConfig(transform="released"),
        sampling=SamplingConfig(size_px=min(512, latent_grid * autoencoder.downsample)),
        licence="see the model card of the release",
        training_data="MIMIC-CXR frontal views (arXiv 2601.11522)"
        if is_released(shapes)
        else "see Janus-Pro",
    )


def kl_autoencoder_config(shapes: Shapes) -> KlAutoencoderConfig:
    """Describe a kl-f16 autoencoder from the shapes of its checkpoint."""
    base = shapes["encoder.conv_in.weight"][0]
    num_levels = 1 + max(int(n.split(".")[2]) for n in shapes if n.startswith("encoder.down."))
    num_blocks = 1 + max(int(n.split(".")[4]) for n in shapes if n.startswith("encoder.down.0.block."))
    widths = [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(num_levels)]
    attention = [level for level in range(num_levels) if f"encoder.down.{level}.attn.0.q.weight" in shapes]
    return KlAutoencoderConfig(
        in_channels=3 if shapes["encoder.conv_in.weight"][1] == 3 else 1,
        latent_channels=shapes["post_quant_conv.weight"][0],
        base_width=base,
        width_multipliers=tuple(width // base for width in widths),
        num_res_blocks=num_blocks,
        attention_levels=tuple(attention),
    )


def released_json(config: ModelConfig) -> dict[str, Any]:
    """Write the config.json of the released layout (the Janus-style variant) for one of our models."""
    size, vision = config.transformer, config.vision
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "language_config": {
            "model_type": "llama",
            "hidden_size": size.width,
            "intermediate_size": size.mlp_width,
            "num_hidden_layers": size.num_layers,
            "num_attention_heads": size.num_heads,
            "num_key_value_heads": size.num_kv_heads,
            "vocab_size": size.vocab_size,
            "max_position_embeddings": size.context_length,
            "rope_theta": size.rope_theta,
            "rms_norm_eps": size.norm_eps,
        },
        "vision_config": {
            "cls": "CLIPVisionTower",
            "model_type": "vision",
            "params": {
                "width": vision.width,
                "layers": vision.num_layers,
                "heads": vision.num_heads,
                "patch_size": vision.patch_size,
                "image_size": vision.image_size_px,
                "select_feature": "same",
                "select_layer": -1,
            },
        },
        "aligner_config": {
            "cls": "MlpProjector",
            "model_type": "aligner",
            "params": {
                "depth": 2,
                "input_dim": vision.width,
                "n_embed": size.width,
                "projector_type": "mlp_gelu",
            },
        },
        "interpolate_pos": config.stretch_positions,
        "oracle": {
            "new_token_ids": {
                "bos_token_id": config.tokens.bos,
                "eos_token_id": config.tokens.eos,
                "start_of_image": config.tokens.start_of_image,
                "end_of_image": config.tokens.end_of_image,
            },
            "vit_max_num_patch_per_side": vision.grid_size,
            "max_latent_size": config.latent_grid,
        },
    }


def _with_slot(part: str) -> str:
    """Put the stream's slot where the released layout puts its suffix."""
    return re.sub(r"^mlp\.", "mlp{}.", part) if part.startswith("mlp.") else part + "{}"


def _transformer_config(shapes: Shapes, values: Mapping[str, Any]) -> TransformerConfig:
    """Read the transformer's sizes; without a QK-norm (Janus-Pro) heads come from the config."""
    language = values.get("language_config") or values.get("llm_config") or {}
    layer = "language_model.model.layers.{}.self_attn."
    vocab_size, width = shapes["language_model.model.embed_tokens.weight"]
    num_layers = _count_blocks(shapes, "language_model.model.layers.")
    first = layer.format(0)
    if first + "q_norm.weight" in shapes:
        head_size = shapes[first + "q_norm.weight"][0]
    else:
        head_size = width // int(language.get("num_attention_heads", width // 128))
    return TransformerConfig(
        width=width,
        num_layers=num_layers,
        num_heads=shapes[first + "q_proj.weight"][0] // head_size,
        num_kv_heads=shapes[first + "k_proj.weight"][0] // head_size,
        mlp_width=shapes["language_model.model.layers.0.mlp.gate_proj.weight"][0],
        vocab_size=vocab_size,
        context_length=int(language.get("max_position_embeddings", 16384)),
        rope_theta=float(language.get("rope_theta", 10000.0)),
        rope_frequencies="dtype",
        norm_eps=float(language.get("rms_norm_eps", 1e-6)),
    )


def _count_blocks(shapes: Shapes, prefix: str) -> int:
    """Count numbered blocks by the highest number, so that a missing tensor leaves no shorter model."""
    return 1 + max(int(n.removeprefix(prefix).split(".")[0]) for n in shapes if n.startswith(prefix))


def _vision_config(shapes: Shapes, values: Mapping[str, Any], prefix: str) -> VisionConfig:
    tower = f"{prefix}.vision_tower."
    width, channels, patch_size, _ = shapes[tower + "patch_embed.proj.weight"]
    num_tokens = shapes[tower + "pos_embed"][1]
    num_layers = _count_blocks(shapes, f"{tower}blocks.")
    params = values.get("vision_config", {}).get("params", {})
    heads = params.get("heads") or values.get("vit_config", {}).get("num_attention_heads") or width // 64
    return VisionConfig(
        image_size_px=math.isqrt(num_tokens) * patch_size,
        patch_size=patch_size,
        in_channels=3 if channels == 3 else 1,
        width=width,
        num_layers=num_layers,
        num_heads=int(heads),
        mlp_width=shapes[f"{tower}blocks.0.mlp.fc1.weight"][0],
        # released inference runs tanh GELU; training, which a Janus-Pro directory is for, runs the exact one
        connector_gelu="tanh" if is_released(shapes) else "erf",
    )
