"""Small random models whose every weight matters: configs, models, tokenizer, directories, pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

from unixcxr.batch import Example, LatentSegment, ReadSegment, Segment, TextSegment
from unixcxr.config import (
    KlAutoencoderConfig,
    ModelConfig,
    PreprocessingConfig,
    SamplingConfig,
    TokenConfig,
    TransformerConfig,
    VisionConfig,
)
from unixcxr.model.autoencoder import build_autoencoder
from unixcxr.model.unix import UniX
from unixcxr.model.weights import save_model

VISION = VisionConfig(image_size_px=16, patch_size=8, width=16, num_layers=2, num_heads=2, mlp_width=24)
TRANSFORMER = TransformerConfig(
    width=24, num_layers=3, num_heads=4, num_kv_heads=2, mlp_width=20, vocab_size=320, context_length=256
)
AUTOENCODER = KlAutoencoderConfig(
    latent_channels=3, base_width=32, width_multipliers=(1, 2), num_res_blocks=1, attention_levels=(1,)
)
TOKENS = TokenConfig(bos=316, eos=317, start_of_image=318, end_of_image=319)
CONFIG = ModelConfig(
    name="tiny",
    vision=VISION,
    transformer=TRANSFORMER,
    autoencoder=AUTOENCODER,
    latent_grid=4,
    tokens=TOKENS,
    preprocessing=PreprocessingConfig(transform="pad"),
    sampling=SamplingConfig(
        report_prompt="Read the film.", max_new_tokens=12, size_px=8, num_steps=3, timestep_shift=1.0
    ),
    licence="none",
    training_data="none",
)
RELEASABLE = replace(
    CONFIG,
    vision=replace(VISION, connector_gelu="tanh"),
    transformer=replace(TRANSFORMER, rope_frequencies="dtype"),
    tokens=replace(TOKENS, doubled_bos=True),
)
"""What a released directory with these weights would be read as."""

TEXTS = [
    "No focal consolidation; 3.5 cm mass,\n\nleft base (T6-T7).",
    "Large right pleural effusion. No pneumothorax.",
    "The heart is enlarged. Mild edema. Herz größer, 6 µm → 7 µm.",
    "Read the film.",
]


def with_transformer(config: ModelConfig = CONFIG, **changes: Any) -> ModelConfig:
    """Return a config with other transformer settings."""
    return replace(config, transformer=replace(config.transformer, **changes))


def build(config: ModelConfig = CONFIG, seed: int = 0) -> UniX:
    """Return a model in eval mode with random weights everywhere, biases and norms included."""
    model = UniX(config)
    scramble(model, seed)
    return model.eval()


@torch.no_grad()
def scramble(module: nn.Module, seed: int = 0) -> None:
    """Draw weights of which none is 0 or 1, so that a wrong use of any shows."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if name == "latent_positions":
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            parameter.copy_(noise * fan_in**-0.5)
        elif "norm" in name and name.endswith("weight"):
            parameter.copy_(1 + 0.3 * noise)
        else:
            parameter.copy_(0.2 * noise)


def picture(seed: int = 0, config: ModelConfig = CONFIG) -> Tensor:
    """Return the pixels of a read image."""
    vision = config.vision
    shape = (vision.in_channels, vision.image_size_px, vision.image_size_px)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def latent(height: int = 2, width: int = 3, seed: int = 0, config: ModelConfig = CONFIG) -> Tensor:
    """Return a latent picture (C, h, w)."""
    shape = (config.autoencoder.latent_channels, height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def text(*token_ids: int, has_loss: bool = False) -> TextSegment:
    """Return a text segment."""
    return TextSegment(token_ids, has_loss)


def example(*segments: Segment) -> Example:
    """Return a sample of these segments."""
    return Example(segments)


SAMPLES: dict[str, Example] = {
    "reading": example(ReadSegment(picture(1)), text(5, 6, 7), text(8, 9, 10, has_loss=True)),
    "drawing": example(text(11, 12, 13), LatentSegment(latent(2, 3, 1), 0.7)),
    "unconditional": example(LatentSegment(latent(3, 2, 2), 1.0)),
    "context latents": example(
        LatentSegment(latent(2, 2, 3), 0.0, is_context=True),
        text(14, 15),
        LatentSegment(latent(2, 2, 4), 0.3),
    ),
    "image and text to image": example(
        ReadSegment(picture(2)), text(16, 17), LatentSegment(latent(2, 2, 5), 0.5)
    ),
    "mixed": example(
        text(1, 2),
        LatentSegment(latent(1, 2, 6), 0.9),
        ReadSegment(picture(3)),
        text(3, has_loss=True),
        LatentSegment(latent(2, 1, 7), 0.0, is_context=True),
        text(4, 5, has_loss=True),
        LatentSegment(latent(1, 3, 8), 0.2),
    ),
}
"""One sample of each kind, 8 to 30 tokens."""


def train_tokenizer(path: Path) -> Path:
    """Train a byte-level BPE on a few sentences and write its tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.save(str(path))
    return path


def save(directory: Path, config: ModelConfig = CONFIG, seed: int = 0) -> Path:
    """Write a native model directory with random weights and a trained tokenizer."""
    autoencoder = build_autoencoder(config.autoencoder)
    scramble(autoencoder, seed + 1)
    tokenizer = train_tokenizer(directory.with_name(directory.name + "-tokenizer.json"))
    return save_model(directory, config, build(config, seed), autoencoder, tokenizer, "# tiny\n")
