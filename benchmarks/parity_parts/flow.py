"""Drawing: velocities with and without guidance, whole trajectories, batches, end to end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from parity_parts.golden import Golden, Row, difference, layer_outputs
from unixcxr.batch import Example, ReadSegment, TextSegment
from unixcxr.data.transforms import latent_output_to_image
from unixcxr.model.unix import UniX
from unixcxr.sampling.image import Conditions, DrawSettings, GuidedVelocity, draw_latents, noisy_block
from unixcxr.sampling.prefix import encode_prefix

GUIDED: dict[str, dict[str, Any]] = {
    "nocfg": {"guidance_scale": 1.0},
    "text2_global": {"guidance_scale": 2.0},
    "text2_channel": {"guidance_scale": 2.0, "renorm": "channel"},
    "text2_textchannel": {"guidance_scale": 2.0, "renorm": "text_channel"},
    "text2_norenorm": {"guidance_scale": 2.0, "renorm_min": 1.0},
    "text2_channel_min0.8": {"guidance_scale": 2.0, "renorm": "channel", "renorm_min": 0.8},
    # the released code computes and discards image guidance when text guidance is off; here it is an error
    "text1_img1.5": {"guidance_scale": 1.0},
    "demo_default": {"guidance_scale": 3.0, "image_guidance_scale": 1.5},
    "text3_img1.5_global": {"guidance_scale": 3.0, "image_guidance_scale": 1.5},
    "text3_img1.5_channel": {"guidance_scale": 3.0, "image_guidance_scale": 1.5, "renorm": "channel"},
    "text3_img1.5_textchannel": {
        "guidance_scale": 3.0,
        "image_guidance_scale": 1.5,
        "renorm": "text_channel",
    },
    "uncond": {"guidance_scale": 1.0},
    "imgctx_text2_img1.5": {"guidance_scale": 2.0, "image_guidance_scale": 1.5},
}


def rows(golden: Golden) -> Iterator[Row]:
    """Compare drawing."""
    prompts = [Example((golden_text(golden, name),)) for name in ("prompt", "prompt2")]
    yield from _prompt_cache(golden, prompts[0])
    yield from _velocities(golden, *prompts)
    yield from _hidden(golden, prompts[0])
    yield from _trajectories(golden, prompts[0])
    yield from _batches(golden, prompts)
    yield from _end_to_end(golden)


def golden_text(golden: Golden, name: str) -> TextSegment:
    """Return a golden prompt, its outer start and end token left to collate."""
    return TextSegment(tuple(golden[f"flow:{name}_ids"][1:-1].tolist()))


def _prompt_cache(golden: Golden, prompt: Example) -> Iterator[Row]:
    prefix = encode_prefix(golden.model, [prompt], 1)
    num_prompt = prefix.cache.length
    for layer in range(len(prefix.cache.keys)):
        if f"flow:prompt_k_layer{layer}" in golden:
            keys, values = prefix.cache.keys[layer], prefix.cache.values[layer]
            yield golden.row(f"flow:prompt_k_layer{layer}", keys[0, :, :num_prompt].transpose(0, 1))
            yield golden.row(f"flow:prompt_v_layer{layer}", values[0, :, :num_prompt].transpose(0, 1))
    positions = torch.tensor([prefix.positions[0]]).expand(len(golden["flow:in_packed_position_ids"]))
    yield golden.row("flow:in_packed_position_ids", positions, 0.0)
    yield golden.row("flow:in_cfg_text_packed_position_ids", positions * 0, 0.0)
    yield golden.row("flow:in_key_values_lens", torch.tensor([num_prompt]), 0.0)
    yield golden.row("flow:in_cfg_text_key_values_lens", torch.tensor([0]), 0.0)
    tokens = golden.model.config.tokens
    yield golden.row(
        "flow:in_packed_text_ids", torch.tensor([tokens.start_of_image, tokens.end_of_image]), 0.0
    )
    block = noisy_block(golden.model.config, prefix.positions, golden.grid)
    assert block.gen is not None
    yield golden.row("flow:in_packed_vae_position_ids", block.gen.grid_ids[0], 0.0)
    for name in (
        "text",
        "vae_token",
        "",
        "key_value",
    ):  # where tokens lie in a packed row; here in two streams
        golden[f"flow:in_packed_{name}_indexes" if name else "flow:in_packed_indexes"]
    golden["flow:in_cfg_text_packed_query_indexes"]


def _velocity(model: UniX, condition: Conditions, golden: Golden, timestep: float, **settings: Any) -> Tensor:
    how = DrawSettings(guidance_interval=(0.0, 1.0), **settings)
    return GuidedVelocity(model, [condition], golden.grid, how)(golden["flow:x_t"][None], timestep)[0]


def _velocities(golden: Golden, prompt: Example, other: Example) -> Iterator[Row]:
    model = golden.model
    image = ReadSegment(golden["vision:pixels"][0])
    contexts = {
        "demo_default": Conditions(prompt, image_free=prompt),
        "uncond": Conditions(Example(())),
        "imgctx_text2_img1.5": Conditions(Example((image, *prompt.segments)), Example((image,)), prompt),
    }
    for name in [n for n in golden.tensors if re.fullmatch(r"flow:v_.+_t[\d.]+", n)]:
        kind, timestep = re.fullmatch(r"flow:v_(.+)_t([\d.]+)", name).groups()  # type: ignore[union-attr]
        condition = contexts.get(kind, Conditions(prompt, image_free=other))
        yield golden.row(name, _velocity(model, condition, golden, float(timestep), **GUIDED[kind]))
    rounded = _velocity(golden.rounded_model, Conditions(prompt), golden, 0.7, guidance_scale=2.0)
    yield golden.row("flow:v_text2_global_t0.7_ropebf16", rounded)


def _hidden(golden: Golden, prompt: Example) -> Iterator[Row]:
    outputs, hooks = layer_outputs(golden.model)
    _velocity(golden.model, Conditions(prompt), golden, 0.7, guidance_scale=1.0)
    for hook in hooks:
        hook.remove()
    num_layers = len(golden.model.blocks)
    for layer, (und, gen) in enumerate(outputs[-num_layers:]):
        assert gen is not None
        packed = torch.cat([und[0, :1], gen[0], und[0, 1:]])
        yield golden.row(f"flow:hidden_layer{layer}_t0.7", packed)


def _settings(given: dict[str, Any]) -> DrawSettings:
    renamed = {"cfg_text_scale": "guidance_scale", "cfg_img_scale": "image_guidance_scale"}
    renamed |= {
        "cfg_interval": "guidance_interval",
        "cfg_renorm_type": "renorm",
        "timestep_shift": "timestep_shift",
    }
    settings = {renamed[key]: value for key, value in given.items() if key != "num_timesteps"}
    settings["guidance_interval"] = tuple(settings["guidance_interval"])
    return DrawSettings(num_steps=given["num_timesteps"] - 1, **settings)


def _trajectories(golden: Golden, prompt: Example) -> Iterator[Row]:
    for name, facts in golden.meta["trajectories"].items():
        xs, vs, ts = [golden["flow:x_t"]], [], [1.0]

        def record(step: int, x: Tensor, velocity: Tensor, then: float) -> None:
            xs.append(x[0])  # noqa: B023
            vs.append(velocity[0])  # noqa: B023
            ts.append(then)  # noqa: B023

        condition = Conditions(prompt, image_free=prompt)
        final = draw_latents(
            golden.model, [condition], golden["flow:x_t"][None], golden.grid, _settings(facts["kw"]), record
        )
        ours = {"x": torch.stack(xs), "v": torch.stack(vs), "t": torch.tensor(ts[:-1]), "final": final[0]}
        for kind, tensor in ours.items():
            if f"traj:{name}_{kind}" in golden:
                yield golden.row(f"traj:{name}_{kind}", tensor)
        if f"traj:{name}_image_u8" in golden:
            yield _grey_row(golden, f"traj:{name}_image_u8", final[0])


def _grey_row(golden: Golden, name: str, latent: Tensor) -> Row:
    """Compare decoded levels, channel by channel; truncation makes one level expected."""
    decoded = golden.autoencoder.decode(latent.T.unflatten(1, golden.grid)[None])[0]
    channels = [torch.from_numpy(latent_output_to_image(channel[None])) for channel in decoded]
    return golden.row(name, torch.stack(channels, -1), 1.0)


def _batches(golden: Golden, prompts: list[Example]) -> Iterator[Row]:
    noise = golden["batch:init_noise"].unflatten(0, (2, -1))
    for renorm in ("global_batch", "channel"):
        how = DrawSettings(
            num_steps=4,
            timestep_shift=3.0,
            guidance_scale=2.0,
            guidance_interval=_batch_interval(golden),
            renorm=renorm,
        )
        latents = draw_latents(golden.model, [Conditions(p) for p in prompts], noise, golden.grid, how)
        yield golden.row(f"batch:latents_{renorm.removesuffix('_batch')}", latents)
    how = DrawSettings(num_steps=4, timestep_shift=3.0, guidance_scale=2.0)
    together = draw_latents(golden.model, [Conditions(p) for p in prompts], noise, golden.grid, how)
    alone = [
        draw_latents(golden.model, [Conditions(p)], noise[i : i + 1], golden.grid, how)
        for i, p in enumerate(prompts)
    ]
    yield difference("a batch of two = two batches of one", together, torch.cat(alone))


def _batch_interval(golden: Golden) -> tuple[float, float]:
    low, high = golden.meta.get("batch2", {}).get("cfg_interval", (0.4, 1.0))
    return float(low), float(high)


def _end_to_end(golden: Golden) -> Iterator[Row]:
    noise = golden["traj:e2e_init_noise"]
    ours = torch.randn(noise.shape, generator=torch.Generator().manual_seed(1234))
    yield golden.row("traj:e2e_init_noise", ours, 0.0)
    how = DrawSettings(num_steps=3, timestep_shift=3.0, guidance_scale=2.0)
    prompt = golden.prompt(golden.meta["batch2"]["prompts"][0])
    final = draw_latents(golden.model, [Conditions(prompt)], noise[None], golden.grid, how)
    yield _grey_row(golden, "traj:e2e_image_u8", final[0])
