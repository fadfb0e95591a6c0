"""Position tables, time embedding, schedules, rotary tables, masks, norms with small inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F

from parity_parts.golden import Golden, Row, difference
from unixcxr.batch import Example, LatentSegment, Layout
from unixcxr.data.collate import collate
from unixcxr.flow.path import time_grid
from unixcxr.model.align import AlignmentProjector, alignment_loss, released_alignment_loss
from unixcxr.model.layers import rope_table, sincos_table, time_features
from unixcxr.model.mask import visible


def rows(golden: Golden) -> Iterator[Row]:
    """Compare tables."""
    model, size = golden.model, golden.model.config.transformer
    yield golden.row("tables:sincos_latent", sincos_table(size.width, model.config.latent_grid), 1e-6)
    picked = [0, 1, 31, 32, 33, 500, 1023]
    yield golden.row("tables:sincos_2048_32_rows", sincos_table(2048, 32)[picked], 1e-6)
    yield golden.row("tables:latent_pos_embed_ckpt", model.latent_positions, 0.0)
    times = golden["tables:ts_values"]
    yield golden.row("tables:ts_sinusoid", time_features(times), 1e-6)
    yield golden.row("tables:ts_embed", model.time_embed(times))
    for name in [n for n in golden.tensors if n.startswith("tables:schedule_n")]:
        points, shift = name.removeprefix("tables:schedule_n").split("_shift")
        grid = time_grid(int(points) - 1, float(shift))
        # the released schedule of n points keeps all of them but walks n - 1 steps
        yield golden.row(name, grid, 1e-6)
    yield from _rotary(golden)
    yield from _places(golden)
    yield from _masks(golden)
    yield from _norms(golden)
    yield from _alignment(golden)


def _rotary(golden: Golden) -> Iterator[Row]:
    size = golden.model.config.transformer
    positions = golden["tables:rope_positions"][None]
    cos, sin = rope_table(positions, size.head_size, size.rope_theta, rounded=False)
    yield golden.row("tables:rope_cos", cos[0, 0], 1e-6)
    yield golden.row("tables:rope_sin", sin[0, 0], 1e-6)
    one = torch.ones(1, 1, dtype=torch.int64)
    for suffix, head_size in (("", size.head_size), ("_official", 128)):
        for ending, rounded in (("", False), ("_bf16", True)):
            cos, sin = rope_table(one, head_size, 10000.0, rounded)
            frequencies = torch.atan2(sin, cos)[0, 0, 0, : head_size // 2]
            yield golden.row(f"tables:rope_inv_freq{suffix}{ending}", frequencies, 1e-6)


def _places(golden: Golden) -> Iterator[Row]:
    """Places of grids in a table of side 7."""
    for name in [n for n in golden.tensors if n.startswith("tables:posids_")]:
        _, kind, size, _ = name.split("_")
        height, width = (int(x) // 16 for x in size.split("x"))
        config = replace(golden.model.config, latent_grid=7, stretch_positions=kind == "interpolate")
        latent = torch.zeros(config.autoencoder.latent_channels, height, width)
        batch = collate([Example((LatentSegment(latent, 1.0),))], config)
        assert batch.gen is not None
        yield golden.row(name, batch.gen.grid_ids[0], 0.0)


def _masks(golden: Golden) -> Iterator[Row]:
    for index, case in enumerate(golden.meta["mask_cases"]):
        order: list[int] = []
        noisy: list[bool] = []
        rank = 0
        for length, mode in zip(case["split_lens"], case["attn_modes"], strict=True):
            order += range(rank, rank + length) if mode == "causal" else [rank] * length
            noisy += [mode == "noise"] * length
            rank = order[-1] + 1
        layout = Layout(torch.tensor([order]), torch.tensor([order]), torch.tensor([noisy]))
        yield golden.row(f"tables:mask_{index}", visible(layout, layout)[0], 0.0)


def _norms(golden: Golden) -> Iterator[Row]:
    model, vae = golden.model, golden.autoencoder
    modules = {
        "rms_input_layernorm": model.blocks[0].und.attn_norm,
        "rms_final_gen": model.norm_gen,
        "rms_q_norm": model.blocks[0].und.q_norm,
        "ln_siglip_norm": model.vision.norm,
        "gn_vae_decoder_norm_out": vae.decoder.norm_out,
        "gn_vae_encoder_mid_attn": vae.encoder.mid.attn_1.norm,
    }
    for name, module in modules.items():
        yield golden.row(f"eps:{name}_out", module(golden[f"eps:{name}_in"]))


def _alignment(golden: Golden) -> Iterator[Row]:
    weights = {n.split(".", 2)[2]: t for n, t in golden.tensors.items() if n.startswith("repa:projector")}
    hidden, width, out = (
        weights["0.weight"].shape[0],
        weights["0.weight"].shape[1],
        weights["4.weight"].shape[0],
    )
    projector = AlignmentProjector(width, out, hidden)
    projector.load_state_dict({f"layers.{n}": golden[f"repa:projector.mlp.{n}"] for n in weights})
    projected = projector(golden["repa:model_features"])
    same, other, single = (golden[f"repa:encoder_features{s}"] for s in ("", "_25", "_b1"))
    yield golden.row("repa:projected", projected)
    yield golden.row("repa:loss_same_len", released_alignment_loss(projected, same))
    yield golden.row("repa:loss_interp", released_alignment_loss(projected, other))
    yield golden.row("repa:loss_batch1", released_alignment_loss(projected[:1], single))
    side = int(projected.shape[1] ** 0.5)
    if side * side == projected.shape[1]:
        paper = -(F.normalize(projected, dim=-1) * F.normalize(same, dim=-1)).sum(-1).mean()
        ours = alignment_loss(projected, (side, side), same, (side, side))
        yield difference("repa: paper's loss, equal grids, by hand", ours, paper, 1e-6)
