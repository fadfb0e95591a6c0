"""Training: packed batches rebuilt as examples, layouts, losses per token and per element, gradients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parity_parts.golden import Golden, Row, difference, layer_outputs
from unixcxr.batch import IGNORE, Batch, Example, LatentSegment, ReadSegment, Segment, TextSegment
from unixcxr.data.collate import collate
from unixcxr.flow.path import interpolate, shift_time, velocity_target
from unixcxr.model.foreign import native_name
from unixcxr.model.mask import visible
from unixcxr.model.unix import UniX
from unixcxr.model.weights import load_model


@dataclass(frozen=True)
class Packed:
    """A golden packed batch: its fields, and where each sample begins."""

    golden: Golden
    name: str

    def __getitem__(self, field: str) -> Tensor:
        return self.golden[f"train:{self.name}_{field}"]

    def get(self, field: str) -> Tensor:
        """Return a field, or an empty tensor where the batch has none."""
        return (
            self[field] if f"train:{self.name}_{field}" in self.golden else torch.empty(0, dtype=torch.int64)
        )

    @property
    def meta(self) -> dict[str, Any]:
        """The facts of this batch."""
        facts: dict[str, Any] = self.golden.meta[f"train_{self.name}"]
        return facts


def rows(golden: Golden) -> Iterator[Row]:
    """Compare training."""
    yield from _weights(golden)
    for name in ("t1", "t2", "t3_genonly"):
        yield from _forward(golden, Packed(golden, name))
    yield from _exact_gelu(golden)
    yield from _gradients(golden)


def _weights(golden: Golden) -> Iterator[Row]:
    """1 / sqrt(len) for every length of the table."""
    lengths = {int(k): v for k, v in golden.meta["len2weight"]["square"].items() if int(k) > 0}
    config = golden.model.config
    ours = []
    for length in lengths:
        batch = collate([Example((TextSegment((7,) * (length - 1), has_loss=True),))], config)
        assert batch.label_weights is not None
        ours.append(float(batch.label_weights[0, 0]))
    yield difference(
        "meta: len2weight square", torch.tensor(ours), torch.tensor(list(lengths.values())), 1e-6
    )


def examples(golden: Golden, packed: Packed) -> tuple[list[Example], list[Tensor], list[Tensor]]:
    """Rebuild examples from the packed fields; also return each drawn picture's latent and noise, in order."""
    config, tokens = golden.model.config, golden.model.config.tokens
    text = dict(zip(packed["packed_text_indexes"].tolist(), packed["packed_text_ids"].tolist(), strict=True))
    vae, vit = (packed.get(f"packed_{kind}_token_indexes").tolist() for kind in ("vae", "vit"))
    raw_times = dict(zip(vae, packed["packed_timesteps"].tolist(), strict=True))
    noise = dict(zip(vae, packed["noise"], strict=True))
    labelled = set(packed.get("ce_loss_indexes").tolist())
    images = iter(packed["vit_images"] if vit else [])
    pictures = iter(zip(packed["padded_latent"], packed.meta["latent_shapes"], strict=True))
    built, latents, noises, index = [], [], [], 0
    for length in packed.meta["sample_lens"]:
        segments: list[Segment] = []
        end = index + length
        while index < end:
            closing = tokens.end_of_image if text[index] == tokens.start_of_image else tokens.eos
            stop = next(i for i in range(index + 1, end) if text.get(i) == closing)
            inside = range(index + 1, stop)
            if closing == tokens.eos:
                segments.append(TextSegment(tuple(text[i] for i in inside), has_loss=index in labelled))
            elif inside[0] in raw_times:
                latent, (height, width) = next(pictures)
                latent = latent[:, :height, :width]
                latents.append(latent.flatten(1).T)
                noises.append(torch.stack([noise[i] for i in inside]))
                time = shift_time(torch.tensor(raw_times[inside[0]]).sigmoid(), packed.meta["timestep_shift"])
                is_context = raw_times[inside[0]] == -torch.inf
                segments.append(LatentSegment(latent, float(time), is_context))
            else:
                segments.append(ReadSegment(next(images)))
            index = stop + 1
        built.append(Example(tuple(segments)))
    assert config.autoencoder.latent_channels == latents[0].shape[1]
    return built, latents, noises


def noisy_batch(golden: Golden, packed: Packed) -> tuple[Batch, Tensor]:
    """Return the batch with noise added, and the velocity target at every latent token, row-major."""
    built, latents, noises = examples(golden, packed)
    batch = collate(built, golden.model.config)
    assert batch.gen is not None
    valid = batch.gen.layout.valid
    noise = torch.zeros_like(batch.gen.latents)
    noise[valid] = torch.cat(noises)
    x_t = interpolate(batch.gen.latents, noise, batch.gen.timesteps)
    return batch.with_latents(x_t, batch.gen.timesteps), velocity_target(
        torch.cat(latents), torch.cat(noises)
    )


def losses(model: UniX, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return squared errors of noisy latents, cross-entropies of labelled tokens, and the text logits."""
    output = model(batch)
    assert batch.gen is not None
    valid = batch.gen.layout.valid
    noisy = batch.gen.layout.noisy[valid]
    errors = (output.velocity[valid] - target)[noisy].square()
    if output.logits is None:
        return errors, None, None
    labels = batch.label_ids[batch.label_ids != IGNORE]
    return errors, F.cross_entropy(output.logits, labels, reduction="none"), output.logits


def _forward(golden: Golden, packed: Packed) -> Iterator[Row]:
    name, model = f"train:{packed.name}", golden.model
    batch, target = noisy_batch(golden, packed)
    encoded = golden.autoencoder.encode(packed["padded_images"])
    yield golden.row(f"{name}_padded_latent", encoded)
    yield from _layout(golden, packed, batch)
    outputs, hooks = layer_outputs(model)
    errors, entropies, logits = losses(model, batch, target)
    for hook in hooks:
        hook.remove()
    yield golden.row(f"{name}_mse", errors)
    if entropies is not None and logits is not None:
        yield golden.row(f"{name}_ce", entropies)
        yield golden.row(f"{name}_ce_logits", logits)
        yield golden.row(f"{name}_ce_loss_weights", batch.label_weights[batch.label_ids != IGNORE], 1e-6)
        yield golden.row(f"{name}_packed_label_ids", batch.label_ids[batch.label_ids != IGNORE], 0.0)
    for layer, (und, gen) in enumerate(outputs):
        yield golden.row(f"{name}_hidden_layer{layer}", _packed(packed, batch, und, gen))


def _packed(packed: Packed, batch: Batch, und: Tensor, gen: Tensor | None) -> Tensor:
    """Put the two padded streams back into one packed row."""
    assert batch.gen is not None
    assert gen is not None
    joined = und.new_zeros(sum(packed.meta["sample_lens"]), *und.shape[2:])
    is_gen = torch.zeros(len(joined), dtype=torch.bool)
    is_gen[packed["packed_vae_token_indexes"]] = True
    joined[~is_gen] = und[batch.und.layout.valid]
    joined[is_gen] = gen[batch.gen.layout.valid]
    return joined


def _layout(golden: Golden, packed: Packed, batch: Batch) -> Iterator[Row]:
    name = f"train:{packed.name}"
    und, gen = batch.und.layout, batch.gen.layout  # type: ignore[union-attr]
    positions = _packed(packed, batch, und.positions[..., None], gen.positions[..., None])[:, 0]
    yield golden.row(f"{name}_packed_position_ids", positions, 0.0)
    yield golden.row(f"{name}_packed_latent_position_ids", batch.gen.grid_ids[gen.valid], 0.0)  # type: ignore[union-attr]
    mask = visible(batch.layout, batch.layout)
    start, num_und = 0, und.order.shape[1]
    for sample, length in enumerate(packed.meta["sample_lens"]):
        # physical place of every packed token of this sample
        where = torch.arange(length)
        is_gen = torch.isin(where + start, packed["packed_vae_token_indexes"])
        place = torch.empty(length, dtype=torch.int64)
        place[~is_gen] = torch.arange(int((~is_gen).sum()))
        place[is_gen] = num_und + torch.arange(int(is_gen.sum()))
        yield golden.row(f"{name}_mask{sample}", mask[sample][place][:, place], 0.0)
        start += length
    for field in ("mse_loss_indexes", "packed_vit_position_ids", "vit_token_seqlens"):
        packed.get(field)  # where tokens lie in a packed row; the masks and losses above stand on them


def _exact_gelu(golden: Golden) -> Iterator[Row]:
    """The released training runs the exact GELU in the connector."""
    model = golden.model
    exact = load_model(golden.directory / "ckpt", rope_frequencies="float32")
    exact.connector.approximate = "none"
    errors, entropies, _ = losses(exact, *noisy_batch(golden, Packed(golden, "t1")))
    yield golden.row("train:t1_erf_mse", errors)
    yield golden.row("train:t1_erf_ce", entropies)
    errors, entropies, _ = losses(model, *noisy_batch(golden, Packed(golden, "t1")))
    yield golden.row("train:t1_freeze_mse", errors)
    yield golden.row("train:t1_freeze_ce", entropies)


@torch.enable_grad()
def _gradients(golden: Golden) -> Iterator[Row]:
    """Gradients of sum(ce w) / sum(w) + mean(mse)."""
    model = golden.model
    batch, target = noisy_batch(golden, Packed(golden, "t1"))
    errors, entropies, _ = losses(model, batch, target)
    weights = batch.label_weights[batch.label_ids != IGNORE]  # type: ignore[index]
    loss = (entropies * weights).sum() / weights.sum() + errors.mean()
    loss.backward()
    yield difference("meta: train_t1_loss", loss.detach(), torch.tensor(golden.meta["train_t1_loss"]))
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for name in [n for n in golden.tensors if n.startswith("train:t1_grad:")]:
        yield golden.row(
            name, gradients[native_name(name.removeprefix("train:t1_grad:"))].reshape(golden[name].shape)
        )
    norms = json.loads((golden.directory / "grad_norms_t1.json").read_text())
    worst = max(
        abs(float(gradients[ours].norm()) - norm)
        for name, norm in norms.items()
        if (ours := native_name(name)) in gradients
    )
    yield Row("grad_norms_t1.json: all parameters", worst, 1e-4)
