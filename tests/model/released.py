"""The released layout written down a second time: every tensor's name and shape from a model's sizes.

At full size the table holds 996 tensors and 3,216,835,600 parameters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from model import tiny
from unixcxr.model.autoencoder import build_autoencoder

Shapes = dict[str, tuple[int, ...]]

LAYER = """
self_attn.q_proj.weight q w
self_attn.q_proj.bias q
self_attn.k_proj.weight kv w
self_attn.k_proj.bias kv
self_attn.v_proj.weight kv w
self_attn.v_proj.bias kv
self_attn.o_proj.weight w q
self_attn.q_norm.weight head
self_attn.k_norm.weight head
self_attn.q_norm_moe_gen.weight head
self_attn.k_norm_moe_gen.weight head
self_attn.q_proj_moe_gen.weight q w
self_attn.q_proj_moe_gen.bias q
self_attn.k_proj_moe_gen.weight kv w
self_attn.k_proj_moe_gen.bias kv
self_attn.v_proj_moe_gen.weight kv w
self_attn.v_proj_moe_gen.bias kv
self_attn.o_proj_moe_gen.weight w q
mlp.gate_proj.weight mlp w
mlp.up_proj.weight mlp w
mlp.down_proj.weight w mlp
mlp_moe_gen.gate_proj.weight mlp w
mlp_moe_gen.up_proj.weight mlp w
mlp_moe_gen.down_proj.weight w mlp
input_layernorm.weight w
input_layernorm_moe_gen.weight w
post_attention_layernorm.weight w
post_attention_layernorm_moe_gen.weight w
"""
BLOCK = """
norm1.weight v
norm1.bias v
attn.qkv.weight 3v v
attn.qkv.bias 3v
attn.proj.weight v v
attn.proj.bias v
norm2.weight v
norm2.bias v
mlp.fc1.weight vmlp v
mlp.fc1.bias vmlp
mlp.fc2.weight v vmlp
mlp.fc2.bias v
"""
LANGUAGE = """
language_model.model.embed_tokens.weight vocab w
language_model.model.norm.weight w
language_model.lm_head.weight vocab w
"""
DRAWING = """
language_model.model.norm_moe_gen.weight w
time_embedder.mlp.0.weight w 256
time_embedder.mlp.0.bias w
time_embedder.mlp.2.weight w w
time_embedder.mlp.2.bias w
vae2llm.weight w c
vae2llm.bias w
llm2vae.weight c w
llm2vae.bias c
latent_pos_embed.pos_embed places w
vit_pos_embed.pos_embed patches w
"""
TOWER = """
pos_embed 1 patches v
patch_embed.proj.weight v 3 p p
patch_embed.proj.bias v
norm.weight v
norm.bias v
attn_pool.latent 1 1 v
attn_pool.q.weight v v
attn_pool.q.bias v
attn_pool.kv.weight 2v v
attn_pool.kv.bias 2v
attn_pool.proj.weight v v
attn_pool.proj.bias v
attn_pool.norm.weight v
attn_pool.norm.bias v
attn_pool.mlp.fc1.weight vmlp v
attn_pool.mlp.fc1.bias vmlp
attn_pool.mlp.fc2.weight v vmlp
attn_pool.mlp.fc2.bias v
"""
CONNECTOR = """
layers.0.weight w v
layers.0.bias w
layers.2.weight w w
layers.2.bias w
"""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model as the table's letters."""

    w: int
    q: int
    kv: int
    head: int
    mlp: int
    vocab: int
    num_layers: int
    v: int
    vmlp: int
    num_blocks: int
    p: int
    patches: int
    c: int
    places: int

    def of(self, letter: str) -> int:
        if letter.isdigit():
            return int(letter)
        factor = letter[0] if letter[0].isdigit() else "1"
        return int(factor) * int(getattr(self, letter.lstrip("123456789")))


FULL = Sizes(
    w=2048,
    q=2048,
    kv=2048,
    head=128,
    mlp=5632,
    vocab=102400,
    num_layers=24,
    v=1024,
    vmlp=4096,
    num_blocks=24,
    p=16,
    patches=576,
    c=16,
    places=1024,
)
TINY = Sizes(
    w=24,
    q=24,
    kv=12,
    head=6,
    mlp=20,
    vocab=320,
    num_layers=3,
    v=16,
    vmlp=24,
    num_blocks=2,
    p=8,
    patches=4,
    c=3,
    places=16,
)
"""The sizes of `tiny.RELEASABLE`."""


def table(text: str, sizes: Sizes, prefix: str = "") -> Shapes:
    """Return names and shapes of a block of lines."""
    lines = (line.split() for line in text.strip().splitlines())
    return {prefix + name: tuple(map(sizes.of, letters)) for name, *letters in lines}


def released_shapes(sizes: Sizes) -> Shapes:
    """Return every tensor of a released UniX model."""
    shapes = table(LANGUAGE, sizes) | table(DRAWING, sizes) | table(CONNECTOR, sizes, "connector.")
    for layer in range(sizes.num_layers):
        shapes |= table(LAYER, sizes, f"language_model.model.layers.{layer}.")
    return shapes | tower_shapes(sizes, "vit_model.vision_tower.")


def tower_shapes(sizes: Sizes, prefix: str) -> Shapes:
    """Return the tensors of the vision tower."""
    shapes = table(TOWER, sizes, prefix)
    for block in range(sizes.num_blocks):
        shapes |= table(BLOCK, sizes, f"{prefix}blocks.{block}.")
    return shapes


def janus_shapes(sizes: Sizes) -> Shapes:
    """Return the tensors of a Janus-Pro model: one stream, no QK-norm, no projection biases, its own drawing parts."""
    shapes = table(LANGUAGE, sizes) | table(CONNECTOR, sizes, "aligner.")
    for layer in range(sizes.num_layers):
        lines = table(LAYER, sizes, f"language_model.model.layers.{layer}.")
        shapes |= {
            n: s
            for n, s in lines.items()
            if not ("_moe_gen" in n or n.endswith("proj.bias") or "q_norm" in n or "k_norm" in n)
        }
    shapes |= tower_shapes(sizes, "vision_model.vision_tower.")
    for name in (
        "gen_vision_model.quantize.embedding.weight",
        "gen_embed.weight",
        "gen_head.vision_head.bias",
    ):
        shapes[name] = (5, 3)
    return shapes | {"gen_aligner.layers.0.weight": (4, 4)}


def draw(shapes: Shapes, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Draw a tensor for each name."""
    generator = torch.Generator().manual_seed(seed)
    return {name: (0.3 * torch.randn(shape, generator=generator)).to(dtype) for name, shape in shapes.items()}


def autoencoder_tensors(seed: int = 1) -> dict[str, Tensor]:
    """Draw the tensors of the tiny autoencoder, whose module names are the checkpoint's."""
    autoencoder = build_autoencoder(tiny.AUTOENCODER)
    tiny.scramble(autoencoder, seed)
    return dict(autoencoder.state_dict())


JANUS_CONFIG: dict[str, Any] = {
    "architectures": ["MultiModalityCausalLM"],
    "language_config": {"num_attention_heads": 4, "max_position_embeddings": 256},
    "vision_config": {"params": {"heads": 2}},
    "oracle": {
        "new_token_ids": {
            "bos_token_id": 316,
            "eos_token_id": 317,
            "start_of_image": 318,
            "end_of_image": 319,
        }
    },
}
UNIX_CONFIG: dict[str, Any] = {
    "architectures": ["UniX"],
    "llm_config": {"max_position_embeddings": 256},
    "vit_config": {"num_attention_heads": 2},
    "vae_path": "vae/kl.ckpt",
    "oracle": JANUS_CONFIG["oracle"],
}
"""The two kinds of config.json that released directories come with."""


def write(directory: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None = None) -> Path:
    """Write a released directory: model.safetensors, config.json, tokenizer.json, vae/kl.ckpt."""
    (directory / "vae").mkdir(parents=True)
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config or JANUS_CONFIG))
    tiny.train_tokenizer(directory / "tokenizer.json")
    checkpoint = {
        **autoencoder_tensors(),
        "loss.logvar": torch.zeros(1),
        "loss.discriminator.w": torch.zeros(3),
    }
    torch.save({"state_dict": checkpoint, "epoch": 3}, directory / "vae" / "kl.ckpt")
    return directory
