"""One layer: two streams with separate weights, joined by one attention.

Letters: B batch, U and G tokens of the und and gen streams, S = U + G, D width, H heads, K head size.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unixcxr.config import TransformerConfig
from unixcxr.model.attention import JointAttention
from unixcxr.model.cache import Cache
from unixcxr.model.layers import RMSNorm, SwiGLU, rotate


class Stream(nn.Module):
    """The weights of one stream in one layer: norms, q/k/v/o projections, QK-norms, MLP."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, head_size = config.width, config.head_size
        self.head_size = head_size
        self.attn_norm = RMSNorm(width, config.norm_eps)
        self.q_proj = nn.Linear(width, config.num_heads * head_size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, config.num_kv_heads * head_size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(width, config.num_kv_heads * head_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.num_heads * head_size, width, bias=False)
        self.q_norm = RMSNorm(head_size, config.norm_eps)
        self.k_norm = RMSNorm(head_size, config.norm_eps)
        self.mlp_norm = RMSNorm(width, config.norm_eps)
        self.mlp = SwiGLU(width, config.mlp_width)

    def project(self, x: Float[Tensor, "B S D"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return normalised queries and keys, and values, each (B, H, S, K), before rotary positions."""
        x = self.attn_norm(x)
        q, k, v = (p(x).unflatten(-1, (-1, self.head_size)) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2), v.transpose(1, 2)

    def finish(
        self, x: Float[Tensor, "B S D"], attended: Float[Tensor, "B S width"]
    ) -> Float[Tensor, "B S D"]:
        """Add the attention result and the MLP to the residual."""
        x = x + self.o_proj(attended)
        return x + self.mlp(self.mlp_norm(x))


class Block(nn.Module):
    """Cross-modal self-attention: q, k, v of both streams concatenated, attended, sliced back."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.und = Stream(config)
        self.gen = Stream(config)
        self.attention = JointAttention()

    def forward(
        self,
        und: Float[Tensor, "B U D"],
        gen: Float[Tensor, "B G D"] | None,
        rope: tuple[Float[Tensor, "B 1 S K"], Float[Tensor, "B 1 S K"]],
        mask: Bool[Tensor, "B 1 S T"],
        cache: Cache | None = None,
        layer: int = 0,
    ) -> tuple[Float[Tensor, "B U D"], Float[Tensor, "B G D"] | None]:
        q, k, v = self.und.project(und)
        if gen is not None:
            q, k, v = (torch.cat(pair, dim=2) for pair in zip((q, k, v), self.gen.project(gen), strict=True))
        q, k = rotate(q, *rope), rotate(k, *rope)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        attended = self.attention(q, k, v, mask)
        num_und = und.shape[1]
        und = self.und.finish(und, attended[:, :num_und])
        if gen is not None:
            gen = self.gen.finish(gen, attended[:, num_und:])
        return und, gen
