"""Reading: image block, prompt, greedy decoding, batches of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from parity_parts.golden import Golden, Row, difference, layer_outputs
from unixcxr.batch import Batch, Example, Layout, ReadSegment, TextSegment, UndTokens
from unixcxr.cleaning.dicom import read_image
from unixcxr.data.collate import collate
from unixcxr.data.transforms import image_to_pixels
from unixcxr.model.cache import Cache
from unixcxr.model.unix import UniX
from unixcxr.sampling.prefix import Prefix, encode_prefix
from unixcxr.sampling.text import TextSettings, decode


def rows(golden: Golden) -> Iterator[Row]:
    """Compare reading."""
    image = ReadSegment(golden["vision:pixels"][0])
    prompt = golden.text(golden.meta["u_prompt"]["text"])
    example = Example((image, prompt))
    yield from _prefix(golden, example)
    yield from _greedy(golden, golden.model, example, "u")
    yield from _greedy(golden, golden.rounded_model, example, "u_ropebf16")
    yield from _end_to_end(golden)
    yield from _several(golden)


def _prefix(golden: Golden, example: Example) -> Iterator[Row]:
    model = golden.model
    num_image = model.config.vision.num_tokens + 2
    batch = collate([example], model.config)
    yield golden.row("und:u_prompt_ids", batch.und.token_ids[0, num_image:], 0.0)
    yield golden.row("und:u_prompt_position_ids", batch.und.layout.positions[0, num_image:], 0.0)
    outputs, hooks = layer_outputs(model)
    cache = model.new_cache(1, 8)  # smaller than needed: growing is part of the path
    model(batch, cache)
    for hook in hooks:
        hook.remove()
    for layer, (hidden, _) in enumerate(outputs):
        yield golden.row(f"und:u_image_hidden_layer{layer}", hidden[0, :num_image])
        yield golden.row(f"und:u_text_hidden_layer{layer}", hidden[0, num_image:])
    yield from _cache_rows(golden, "und:u_after_image", cache, slice(0, num_image))
    yield from _cache_rows(golden, "und:u_prefill", cache, slice(0, cache.length))


def _cache_rows(golden: Golden, name: str, cache: Cache, slots: slice, row: int = 0) -> Iterator[Row]:
    for layer in range(len(cache.keys)):
        if f"{name}_k_layer{layer}" in golden:
            for kind, buffers in (("k", cache.keys), ("v", cache.values)):
                yield golden.row(f"{name}_{kind}_layer{layer}", buffers[layer][row, :, slots].transpose(0, 1))


def _greedy(golden: Golden, model: UniX, example: Example, name: str) -> Iterator[Row]:
    theirs = golden[f"und:{name}_argmax_ids"]
    prefix = encode_prefix(model, [example], len(theirs))
    logits = step_logits(model, prefix, theirs[:, None])[:, 0]
    yield golden.row(f"und:{name}_logits", logits)
    yield golden.row(f"und:{name}_argmax_ids", logits.argmax(-1), 0.0)
    if name == "u":
        yield from _cache_rows(golden, "und:u_after_decode", prefix.cache, slice(0, prefix.cache.length))
        yield golden.row("und:u_probs_T0.3_step0", (logits[0] / 0.3).softmax(-1))
    settings = TextSettings(max_new_tokens=len(theirs))
    steps = decode(model, encode_prefix(model, [example], 1), settings, [0])
    ids = [model.config.tokens.bos, *(token.token_id for step in steps for token in step)]
    yield golden.row(f"und:{name}_token_ids", torch.tensor(ids[: len(golden[f"und:{name}_token_ids"])]), 0.0)


def step_logits(model: UniX, prefix: Prefix, next_ids: Tensor) -> Tensor:
    """Feed the start token and then given ids (steps, rows); return the logits of every step."""
    ids = torch.full((1, next_ids.shape[1]), model.config.tokens.bos)
    fed = torch.cat([ids, next_ids[:-1]])
    logits = []
    for step, row in enumerate(fed):
        positions = torch.tensor(prefix.positions)[:, None] + step
        layout = Layout(positions, torch.zeros_like(positions), torch.zeros_like(positions, dtype=torch.bool))
        wanted = torch.ones_like(positions, dtype=torch.bool)
        logits.append(model(Batch(UndTokens(row[:, None], layout), logit_slots=wanted), prefix.cache).logits)
    return torch.stack(logits)


def _end_to_end(golden: Golden) -> Iterator[Row]:
    facts, vision = golden.meta["e2e_understanding"], golden.model.config.vision
    image = read_image(golden.directory / facts["image"])
    pixels = image_to_pixels(image, "released", vision.image_size_px, stride=vision.patch_size)
    yield golden.row("und:e2e_pixels", pixels, 1e-5)
    example = Example((ReadSegment(pixels), golden.text(facts["prompt"])))
    ids = golden["und:e2e_argmax_ids"]
    logits = step_logits(golden.model, encode_prefix(golden.model, [example], len(ids)), ids[:, None])[:, 0]
    yield golden.row("und:e2e_logits", logits)
    yield golden.row("und:e2e_argmax_ids", logits.argmax(-1), 0.0)
    text = golden.tokenizer.decode(ids[:-1].tolist())
    yield Row("meta: end-to-end text differs", float(text != facts["text"]), 0.0)


def _several(golden: Golden) -> Iterator[Row]:
    """Text-only contexts: two prompts in one sample, and two samples in one batch."""
    model = golden.model
    prompts = [
        TextSegment(tuple(golden[f"flow:{name}_ids"][1:-1].tolist())) for name in ("prompt2", "prompt")
    ]
    two = Example((prompts[0], golden.text(golden.meta["u_prompt"]["text"])))
    theirs = golden["und:text2_logits"]
    ids = theirs.argmax(-1)[:, None]
    yield golden.row("und:text2_logits", step_logits(model, encode_prefix(model, [two], len(ids)), ids)[:, 0])
    examples: Sequence[Example] = [golden.prompt(text) for text in golden.meta["batch2"]["prompts"]]
    ids = golden["batch:token_ids"]
    theirs = golden["batch:logits"]
    prefix = encode_prefix(model, examples, len(ids))
    yield from _packed_cache(golden, prefix)
    logits = step_logits(model, prefix, theirs.argmax(-1))
    yield golden.row("batch:logits", logits)
    fed = torch.cat([torch.full((1, 2), model.config.tokens.bos), logits.argmax(-1)[:-1]])
    yield golden.row("batch:token_ids", fed, 0.0)


def _packed_cache(golden: Golden, prefix: Prefix) -> Iterator[Row]:
    """The released code packs the caches of a batch; ours pads them."""
    cache = prefix.cache
    for layer in range(len(cache.keys)):
        for kind, buffers in (("k", cache.keys), ("v", cache.values)):
            name = f"batch:prefill_{kind}_layer{layer}"
            if name in golden:
                parts = [
                    buffers[layer][row, :, : cache.length][:, valid] for row, valid in enumerate(cache.valid)
                ]
                yield golden.row(name, torch.cat([p.transpose(0, 1) for p in parts]))
    yield difference(
        "meta: batch positions",
        torch.tensor(prefix.positions),
        torch.tensor(golden.meta["batch2"]["ropes"]),
        0.0,
    )
