"""Image transforms, tokenizer, vision tower, connector, autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from parity_parts.golden import Golden, Row, difference
from unixcxr.cleaning.dicom import read_image
from unixcxr.data.transforms import (
    fit_image,
    image_to_latent_input,
    image_to_pixels,
    latent_output_to_image,
    letterbox,
    released_resize,
    resized_size,
)
from unixcxr.model.vision import Connector


def rows(golden: Golden) -> Iterator[Row]:
    """Compare what comes before the transformer."""
    yield from _transforms(golden)
    wrong = sum(
        list(golden.tokenizer.encode(e["text"])) != e["encode_no_special"]
        for e in golden.meta["tokenizer_examples"]
    )
    yield Row("meta: tokenizer examples that differ", float(wrong), 0.0)
    yield from _vision(golden)
    yield from _autoencoder(golden)


def _transforms(golden: Golden) -> Iterator[Row]:
    wrong = sum(
        resized_size(
            *case["in_wh"], case["max"], case["min"], case["stride"], case["max_pixels"], case["img_num"]
        )[::-1]
        != tuple(case["out_hw"])
        for case in golden.meta["resize_sizes"]
    )
    yield Row("meta: resized sizes that differ", float(wrong), 0.0)
    for name in ("square", "nonsquare"):
        image = read_image(golden.directory / f"image_{name}.png")
        yield golden.row(f"transforms:{name}_pixels", image, 0.0)
        resized = released_resize(image, 384)
        yield golden.row(f"transforms:{name}_siglip_resized_u8", resized, 0.0)
        grey = torch.from_numpy(resized.astype(np.float32))
        siglip = ((grey / 255 - 0.555895) / 0.336385).expand(3, -1, -1)
        latent_input = torch.from_numpy(released_resize(image, 256).astype(np.float32)) / 255 * 2 - 1
        if name == "square":
            siglip = image_to_pixels(image, "released", 384)
            latent_input = image_to_latent_input(image, "released", 256)[0]
        yield golden.row(f"transforms:{name}_siglip384", siglip, 1e-5)
        yield golden.row(f"transforms:{name}_vae256", latent_input.expand(3, -1, -1), 1e-5)
        yield golden.row(f"transforms:{name}_eval_letterbox_u8", letterbox(image, 384), 0.0)
        squashed = fit_image(image, "released_gradio", 384)
        yield golden.row(f"transforms:{name}_demo_lanczos384_u8", squashed, 0.0)


def _vision(golden: Golden) -> Iterator[Row]:
    model = golden.model
    pixels = golden["vision:pixels"]
    first: list[torch.Tensor] = []
    hooks = [
        b.register_forward_hook(lambda _m, _i, output: first.append(output)) for b in model.vision.blocks
    ]
    features = model.vision(pixels[:1])
    for hook in hooks:
        hook.remove()
    for index, output in enumerate(first):
        if f"vision:siglip_block{index}_img0" in golden:
            yield golden.row(f"vision:siglip_block{index}_img0", output)
    features = model.vision(pixels)
    yield golden.row("vision:siglip_features", features)
    yield golden.row("vision:connector_out", model.connector(features))
    exact = Connector(replace(model.config.vision, connector_gelu="erf"), model.config.transformer.width)
    exact.load_state_dict(model.connector.state_dict())
    yield golden.row("vision:connector_out_erf", exact(features))


def _autoencoder(golden: Golden) -> Iterator[Row]:
    autoencoder = golden.autoencoder
    image, latent = golden["vae:image"], golden["vae:latent"]
    moments = autoencoder.quant_conv(autoencoder.encoder(image))
    yield golden.row("vae:moments", moments)
    yield golden.row("vae:encoded_mode", autoencoder.encode(image))
    yield golden.row("vae:encoded_sample", autoencoder.encode(image, golden["vae:sample_eps"]))
    decoded = autoencoder.decode(latent)
    yield golden.row("vae:decoded", decoded)
    yield golden.row("vae:decoded16", autoencoder.decode(golden["vae:latent16"]))
    assert isinstance(autoencoder, nn.Module)
    levels = torch.from_numpy(latent_output_to_image(decoded[0][:1]))
    by_hand = ((decoded[0][0] / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8)
    yield difference("vae: grey levels of the first channel, by hand", levels, by_hand, 0.0)
