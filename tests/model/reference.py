"""The model a second time: slow, one sample, tokens one by one, from the released weights' own names.

Written from the description of the released computation, not from this package's modules, which it shares
nothing with but the input dataclasses and the name map. Everything is in float64.

A sample is a list of splits in logical order, as the released training packs it:

    text          "causal"   [bos, tokens, eos]       one rotary position each
    read image    "full"     [soi, patches, eoi]      one rotary position for all
    clean latents "full"     [soi, latents, eoi]      one rotary position for all
    noisy latents "noise"    [soi, latents, eoi]      one rotary position for all, and the next token has it too
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unixcxr.batch import Example, ReadSegment, Segment, TextSegment
from unixcxr.config import ModelConfig
from unixcxr.model.foreign import released_name
from unixcxr.model.unix import UniX

Weights = Mapping[str, Tensor]
LAYER = "language_model.model.layers.{}."


@dataclass
class Token:
    """One token of the packed sequence: its vector, its stream, and where it stands."""

    vector: Tensor
    is_latent: bool
    position: int
    split: int


@dataclass
class Answer:
    """What the reference computes of one sample, tokens in logical order."""

    und: Tensor
    logits: Tensor
    velocity: Tensor
    attention: list[Tensor] = field(default_factory=list)
    """Per layer (heads, tokens, tokens), und and gen tokens together in logical order."""
    is_latent: list[bool] = field(default_factory=list)


def released_weights(model: UniX) -> dict[str, Tensor]:
    """Return float64 leaves under the released names, to compute with and to take gradients of."""
    weights = {}
    for name, tensor in model.state_dict().items():
        wide = tensor.detach().double()
        if name == "vision.positions":
            wide = wide[None]
        weights[released_name(name)] = wide.clone().requires_grad_()
    return weights


def run(weights: Weights, config: ModelConfig, example: Example, start: int = 0) -> Answer:
    """Compute hidden states, text logits at every und token, and velocities at every latent."""
    tokens, modes = pack(weights, config, example, start)
    allowed = [[may_see(tokens, modes, i, j) for j in range(len(tokens))] for i in range(len(tokens))]
    answer = Answer(torch.empty(0), torch.empty(0), torch.empty(0), [], [t.is_latent for t in tokens])
    for layer in range(config.transformer.num_layers):
        run_layer(weights, config, layer, tokens, allowed, answer.attention)
    eps = config.transformer.norm_eps
    final = [rms_norm(t.vector, weights[f"language_model.model.norm{suffix(t)}.weight"], eps) for t in tokens]
    und = [h for h, t in zip(final, tokens, strict=True) if not t.is_latent]
    gen = [h for h, t in zip(final, tokens, strict=True) if t.is_latent]
    head = weights.get("language_model.lm_head.weight", weights["language_model.model.embed_tokens.weight"])
    answer.und = torch.stack(und)
    answer.logits = torch.stack([head @ h for h in und])
    if gen:
        answer.velocity = torch.stack([linear(weights, "llm2vae", h) for h in gen])
    return answer


def pack(
    weights: Weights, config: ModelConfig, example: Example, start: int
) -> tuple[list[Token], list[str]]:
    """Embed every token of a sample in logical order; return them and the mode of each split."""
    tokens: list[Token] = []
    modes: list[str] = []
    position = start
    for split, segment in enumerate(example.segments):
        vectors, latent_flags = embed(weights, config, segment)
        is_text = isinstance(segment, TextSegment)
        is_noisy = not is_text and not isinstance(segment, ReadSegment) and not segment.is_context
        modes.append("causal" if is_text else "noise" if is_noisy else "full")
        for index, (vector, is_latent) in enumerate(zip(vectors, latent_flags, strict=True)):
            tokens.append(Token(vector, is_latent, position + (index if is_text else 0), split))
        position += len(vectors) if is_text else 0 if is_noisy else 1
    return tokens, modes


def may_see(tokens: Sequence[Token], modes: Sequence[str], query: int, key: int) -> bool:
    """Say whether token `query` attends to token `key`, by the split rules."""
    query_split, key_split = tokens[query].split, tokens[key].split
    if query_split == key_split:
        return key <= query if modes[query_split] == "causal" else True
    return key_split < query_split and modes[key_split] != "noise"


def embed(weights: Weights, config: ModelConfig, segment: Segment) -> tuple[list[Tensor], list[bool]]:
    """Return the vectors of a segment's tokens with their markers, and which of them are latents."""
    table = weights["language_model.model.embed_tokens.weight"]
    ids = config.tokens
    if isinstance(segment, TextSegment):
        vectors = [table[i] for i in (ids.bos, *segment.token_ids, ids.eos)]
        return vectors, [False] * len(vectors)
    if isinstance(segment, ReadSegment):
        inner, is_latent = list(see(weights, config, segment.pixels.double())), False
    else:
        inner, is_latent = embed_latents(weights, config, segment.latent.double(), segment.timestep), True
    flags = [False, *[is_latent] * len(inner), False]
    return [table[ids.start_of_image], *inner, table[ids.end_of_image]], flags


def embed_latents(weights: Weights, config: ModelConfig, latent: Tensor, timestep: float) -> list[Tensor]:
    """Embed a latent picture row by row: projection + time + place in the square table."""
    _, height, width = latent.shape
    frequencies = [math.exp(-math.log(10000) * k / 128) for k in range(128)]
    features = [math.cos(timestep * f) for f in frequencies] + [math.sin(timestep * f) for f in frequencies]
    hidden = linear(weights, "time_embedder.mlp.0", torch.tensor(features, dtype=torch.float64))
    time = linear(weights, "time_embedder.mlp.2", hidden * torch.sigmoid(hidden))
    places = weights["latent_pos_embed.pos_embed"]
    side = config.latent_grid
    return [
        linear(weights, "vae2llm", latent[:, row, column])
        + time
        + places[
            (row * side // height * side + column * side // width)
            if config.stretch_positions
            else row * side + column
        ]
        for row in range(height)
        for column in range(width)
    ]


def run_layer(
    weights: Weights,
    config: ModelConfig,
    layer: int,
    tokens: list[Token],
    allowed: list[list[bool]],
    record: list[Tensor],
) -> None:
    """Run one layer in place: every head of every token attends to what it may see."""
    size = config.transformer
    head_size, group = size.head_size, size.num_heads // size.num_kv_heads
    prefix = LAYER.format(layer)
    queries, keys, values = [], [], []
    for token in tokens:
        x = rms_norm(token.vector, weights[f"{prefix}input_layernorm{suffix(token)}.weight"], size.norm_eps)
        attn = prefix + "self_attn.{}_proj" + suffix(token)
        q, k, v = (linear(weights, attn.format(part), x).split(head_size) for part in "qkv")
        norm = prefix + "self_attn.{}_norm" + suffix(token) + ".weight"
        turn = rotation(token.position, size.head_size, size.rope_theta)
        queries.append([turned(rms_norm(h, weights[norm.format("q")], size.norm_eps), turn) for h in q])
        keys.append([turned(rms_norm(h, weights[norm.format("k")], size.norm_eps), turn) for h in k])
        values.append(v)
    attention = torch.zeros(size.num_heads, len(tokens), len(tokens), dtype=torch.float64)
    for i, token in enumerate(tokens):
        seen = [j for j in range(len(tokens)) if allowed[i][j]]
        heads = []
        for head in range(size.num_heads):
            scores = torch.stack([queries[i][head] @ keys[j][head // group] for j in seen])
            weight = softmax(scores / math.sqrt(head_size))
            attention[head, i, seen] = weight.detach()
            heads.append(sum(w * values[j][head // group] for w, j in zip(weight, seen, strict=True)))
        token.vector = token.vector + linear(
            weights, f"{prefix}self_attn.o_proj{suffix(token)}", torch.cat(heads)
        )
    record.append(attention)
    for token in tokens:
        x = rms_norm(
            token.vector, weights[f"{prefix}post_attention_layernorm{suffix(token)}.weight"], size.norm_eps
        )
        mlp = f"{prefix}mlp{suffix(token)}."
        gate = linear(weights, mlp + "gate_proj", x)
        token.vector = token.vector + linear(
            weights, mlp + "down_proj", gate * torch.sigmoid(gate) * linear(weights, mlp + "up_proj", x)
        )


def see(weights: Weights, config: ModelConfig, pixels: Tensor) -> Tensor:
    """Return the connector's output for every patch of one picture, row by row."""
    vision = config.vision
    size, tower = vision.patch_size, "vit_model.vision_tower."
    kernel = weights[tower + "patch_embed.proj.weight"].flatten(1)
    rows = [
        kernel @ pixels[:, top : top + size, left : left + size].flatten()
        for top in range(0, vision.image_size_px, size)
        for left in range(0, vision.image_size_px, size)
    ]
    x = torch.stack(rows) + weights[tower + "patch_embed.proj.bias"] + weights[tower + "pos_embed"][0]
    for index in range(vision.num_layers):
        block = f"{tower}blocks.{index}."
        q, k, v = linear(
            weights, block + "attn.qkv", layer_norm(weights, block + "norm1", x, vision.norm_eps)
        ).chunk(3, dim=1)
        width = vision.width // vision.num_heads
        heads = []
        for head in range(vision.num_heads):
            part = slice(head * width, (head + 1) * width)
            scores = q[:, part] @ k[:, part].T / math.sqrt(width)
            heads.append(torch.stack([softmax(row) for row in scores]) @ v[:, part])
        x = x + linear(weights, block + "attn.proj", torch.cat(heads, dim=1))
        hidden = linear(weights, block + "mlp.fc1", layer_norm(weights, block + "norm2", x, vision.norm_eps))
        x = x + linear(weights, block + "mlp.fc2", gelu(hidden))
    x = layer_norm(weights, tower + "norm", x, vision.norm_eps)
    hidden = linear(weights, "connector.layers.0", x)
    activated = gelu_tanh(hidden) if vision.connector_gelu == "tanh" else gelu(hidden)
    return linear(weights, "connector.layers.2", activated)


def suffix(token: Token) -> str:
    """Return what the released names of a token's stream end in."""
    return "_moe_gen" if token.is_latent else ""


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Apply a linear layer to a vector, or to each row."""
    y = x @ weights[name + ".weight"].T
    return y + weights[name + ".bias"] if name + ".bias" in weights else y


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide a vector by its root mean square."""
    return x / torch.sqrt((x * x).mean() + eps) * weight


def layer_norm(weights: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    """Give each row mean 0 and variance 1, then scale and shift."""
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * weights[name + ".weight"] + weights[name + ".bias"]


def softmax(scores: Tensor) -> Tensor:
    """Return exponentials that sum to 1."""
    exponentials = torch.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def gelu(x: Tensor) -> Tensor:
    """Exact GELU."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rotation(position: int, head_size: int, theta: float) -> Tensor:
    """Return a unit complex number for each pair of a head."""
    angles = [position * theta ** (-2 * k / head_size) for k in range(head_size // 2)]
    return torch.tensor([complex(math.cos(a), math.sin(a)) for a in angles], dtype=torch.complex128)


def turned(head: Tensor, turn: Tensor) -> Tensor:
    """Turn the pairs (k, k + K/2) of a head by their angles."""
    half = len(head) // 2
    rotated = torch.complex(head[:half], head[half:]) * turn
    return torch.cat([rotated.real, rotated.imag])
