"""The model: one forward pass for training, validation, scoring and sampling.

Letters: B batch, U and G tokens of the und and gen streams, C latent channels, D width, V vocabulary, N images.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unixcxr.batch import Batch, GenTokens, Output, UndTokens
from unixcxr.config import ModelConfig
from unixcxr.model.block import Block
from unixcxr.model.cache import Cache
from unixcxr.model.layers import RMSNorm, TimeEmbedding, rope_table, sincos_table
from unixcxr.model.mask import joint_mask
from unixcxr.model.vision import Connector, VisionTower


class UniX(nn.Module):
    """Two decoupled streams joined by self-attention in every layer (UniX, arXiv 2601.11522)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.transformer
        self.config = config
        self.embed_tokens = nn.Embedding(size.vocab_size, size.width)
        self.vision = VisionTower(config.vision)
        self.connector = Connector(config.vision, size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.num_layers))
        self.norm_und = RMSNorm(size.width, size.norm_eps)
        self.norm_gen = RMSNorm(size.width, size.norm_eps)
        if not size.tied_text_head:
            self.text_head = nn.Linear(size.width, size.vocab_size, bias=False)
        self.time_embed = TimeEmbedding(size.width)
        self.latent_in = nn.Linear(config.autoencoder.latent_channels, size.width)
        self.latent_out = nn.Linear(size.width, config.autoencoder.latent_channels)
        self.latent_positions = nn.Parameter(
            sincos_table(size.width, config.latent_grid), requires_grad=False
        )

    def forward(self, batch: Batch, cache: Cache | None = None, gen_hidden_at: int | None = None) -> Output:
        """Run both streams over a batch, after the prefix in `cache` if there is one.

        New tokens that are not noisy join the cache unless it is frozen. `gen_hidden_at` asks for the gen
        stream as it leaves that layer (0 is the first), for representation alignment.
        """
        size, layout = self.config.transformer, batch.layout
        und = self._embed_und(batch.und)
        gen = None if batch.gen is None else self._embed_gen(batch.gen)
        cached = None
        if cache is not None:
            cache.reserve(layout.order.shape[1])
            cached = cache.valid
        rope = rope_table(layout.positions, size.head_size, size.rope_theta, self.rounds_rope)
        mask = joint_mask(layout, cached)
        gen_hidden = None
        for index, block in enumerate(self.blocks):
            und, gen = block(und, gen, rope, mask, cache, index)
            if index == gen_hidden_at:
                gen_hidden = gen
        if cache is not None:
            cache.commit(layout)
        und = self.norm_und(und)
        return Output(
            und=und,
            logits=None if batch.logit_slots is None else self._text_logits(und[batch.logit_slots]),
            velocity=None if gen is None else self.latent_out(self.norm_gen(gen)),
            gen_hidden=gen_hidden,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.latent_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights, and the pixels and latents that meet them, are made of."""
        return self.latent_in.weight.dtype

    @property
    def rounds_rope(self) -> bool:
        """Whether rotary frequencies are rounded to bfloat16."""
        frequencies = self.config.transformer.rope_frequencies
        return frequencies == "bfloat16" or (frequencies == "dtype" and self.dtype == torch.bfloat16)

    def new_cache(self, batch_size: int, capacity: int) -> Cache:
        """Allocate an empty cache on the model's device, in its dtype."""
        return Cache(self.config.transformer, batch_size, capacity, self.device, self.dtype)

    def _embed_und(self, tokens: UndTokens) -> Float[Tensor, "B U D"]:
        und = self.embed_tokens(tokens.token_ids)
        if tokens.images is None or tokens.image_slots is None:
            return und
        features = self.connector(self.vision(tokens.images)).to(und.dtype)
        return und.masked_scatter(tokens.image_slots[..., None], features)

    def _embed_gen(self, tokens: GenTokens) -> Float[Tensor, "B G D"]:
        places = self.latent_positions[tokens.grid_ids]
        return self.latent_in(tokens.latents) + self.time_embed(tokens.timesteps) + places

    def _text_logits(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        if self.config.transformer.tied_text_head:
            return nn.functional.linear(hidden, self.embed_tokens.weight)
        return self.text_head(hidden)


def initialise(model: UniX, generator: torch.Generator) -> UniX:
    """Draw new weights for training from scratch, and return the model."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            draw_parameter(name, parameter, model.config.transformer.num_layers, generator)
    return model


@torch.no_grad()
def draw_parameter(name: str, parameter: Tensor, num_layers: int, generator: torch.Generator) -> Tensor:
    """Fill one parameter, by its name in `UniX`, with a starting value, and return it.

    Normal 0.02 for matrices (residual outputs scaled by depth), ones for norms, zeros for biases and for the
    velocity head, so that the first predicted velocity is zero.
    """
    if parameter.ndim < 2:
        return parameter.zero_() if name.endswith("bias") else parameter.fill_(1.0)
    if name == "latent_out.weight":
        return parameter.zero_()
    if parameter.ndim == 4:  # convolutions of the stem
        return nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    is_residual_output = name.endswith(("o_proj.weight", "down.weight"))
    scale = (2 * num_layers) ** -0.5 if is_residual_output else 1.0
    return nn.init.normal_(parameter, std=0.02 * scale, generator=generator)
