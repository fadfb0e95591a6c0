"""The architecture and the defaults of one model: what `config.json` of a model directory holds.

One class describes every size, from the embedded model to the released 3.2 B one (REFERENCE: UniX,
arXiv 2601.11522). Shapes: D width, H heads, K head size, V vocabulary, C latent channels.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from unixcxr.config.base import STRICT

Positive = Annotated[int, Field(gt=0)]
Renorm = Literal["global", "channel", "text_channel", "global_batch"]
Solver = Literal["euler", "heun"]

STEM_UNSHUFFLE = 4
"""Pixels a side that a conv stem folds into channels before its first convolution."""

STEM_NORM_GROUPS, KL_NORM_GROUPS = 8, 32

REPORT_PROMPT = "As an imaging expert, review this X-ray and share the FINDINGS and IMPRESSION."
"""The report prompt of the released inference."""


@dataclass(frozen=True, config=STRICT)
class VisionConfig:
    """The encoder of a read image and the two-layer connector behind it.

    `stem="patch"` is SigLIP's single strided convolution. `stem="conv"` folds `patch_size` into a pixel
    unshuffle by 4 followed by stride-2 convolutions, which sees thin lines that one large patch blurs.
    """

    image_size_px: Positive = 384
    patch_size: Positive = 16
    in_channels: Literal[1, 3] = 3
    width: Positive = 1024
    num_layers: Positive = 24
    num_heads: Positive = 16
    mlp_width: Positive = 4096
    norm_eps: float = 1e-6
    stem: Literal["patch", "conv"] = "patch"
    connector_gelu: Literal["erf", "tanh"] = "erf"

    @property
    def grid_size(self) -> int:
        """Patches along one side."""
        return self.image_size_px // self.patch_size

    @property
    def num_tokens(self) -> int:
        """Feature tokens of one image."""
        return self.grid_size**2

    @property
    def stem_widths(self) -> tuple[int, ...]:
        """Channels before, between and after the strided convolutions of a conv stem."""
        num_strided = (self.patch_size // STEM_UNSHUFFLE).bit_length() - 1
        return tuple(max(32, self.width >> (num_strided - i)) for i in range(num_strided + 1))

    @model_validator(mode="after")
    def _check(self) -> VisionConfig:
        if self.image_size_px % self.patch_size:
            raise ValueError(
                f"image_size_px {self.image_size_px} is no multiple of patch_size {self.patch_size}"
            )
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is no multiple of num_heads {self.num_heads}")
        if self.stem == "conv" and (self.patch_size < 8 or self.patch_size & (self.patch_size - 1)):
            raise ValueError(f"a conv stem needs a patch_size of 8, 16, 32 ..., found {self.patch_size}")
        if self.stem == "conv" and any(width % STEM_NORM_GROUPS for width in self.stem_widths):
            raise ValueError(
                f"a conv stem of width {self.width} has channels {list(self.stem_widths)}, which must be "
                f"multiples of {STEM_NORM_GROUPS}"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class TransformerConfig:
    """The two-stream transformer. Both streams have the same sizes and separate weights.

    `rope_frequencies` is the precision that rotary frequencies are rounded to; "dtype" rounds them to bfloat16
    when the weights are bfloat16, as the released code does, whose weights were trained so.
    """

    width: Positive = 2048
    num_layers: Positive = 24
    num_heads: Positive = 16
    num_kv_heads: Positive = 16
    mlp_width: Positive = 5632
    vocab_size: Positive = 102400
    context_length: Positive = 16384
    rope_theta: float = 10000.0
    rope_frequencies: Literal["float32", "bfloat16", "dtype"] = "float32"
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    tied_text_head: bool = False

    @property
    def head_size(self) -> int:
        """K: the width of one attention head."""
        return self.width // self.num_heads

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.width % self.num_heads or self.head_size % 2:
            raise ValueError(f"width {self.width} must be num_heads {self.num_heads} times an even head size")
        if self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 for the 2-D position table")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}")
        return self


@dataclass(frozen=True, config=STRICT)
class KlAutoencoderConfig:
    """The convolutional kl-f16 autoencoder of latent diffusion (Rombach et al. 2022), as UniX uses it."""

    kind: Literal["kl"] = "kl"
    in_channels: Literal[1, 3] = 3
    latent_channels: Positive = 16
    base_width: Positive = 128
    width_multipliers: tuple[Positive, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: Positive = 2
    attention_levels: tuple[int, ...] = (4,)
    scale: float = 0.238092
    shift: float = -0.201906

    @property
    def downsample(self) -> int:
        """Pixels along one side of a latent."""
        return int(2 ** (len(self.width_multipliers) - 1))

    @model_validator(mode="after")
    def _check(self) -> KlAutoencoderConfig:
        widths = [self.base_width * multiplier for multiplier in (1, *self.width_multipliers)]
        if any(width % KL_NORM_GROUPS for width in widths):
            raise ValueError(f"the levels' channels {widths} must be multiples of {KL_NORM_GROUPS}")
        if any(not 0 <= level < len(self.width_multipliers) for level in self.attention_levels):
            raise ValueError(
                f"attention_levels {list(self.attention_levels)} are not all among the "
                f"{len(self.width_multipliers)} levels 0 to {len(self.width_multipliers) - 1}"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class PatchAutoencoderConfig:
    """A small autoencoder for CPUs: whitened patch PCA as a linear skip, convolutions for the rest.

    `downsample` pixels a side become one latent of `latent_channels`; `unshuffle` pixels a side are folded
    into channels before the first convolution, so that no convolution runs at full resolution but one.
    """

    kind: Literal["patch"] = "patch"
    in_channels: Literal[1] = 1
    latent_channels: Positive = 16
    downsample: Positive = 16
    unshuffle: Positive = 4
    widths: tuple[Positive, ...] = (48, 96, 160)
    refine_width: Positive = 16

    @model_validator(mode="after")
    def _check(self) -> PatchAutoencoderConfig:
        if self.unshuffle * 2 ** (len(self.widths) - 1) != self.downsample:
            raise ValueError(
                f"unshuffle {self.unshuffle} and {len(self.widths)} widths give a downsample of "
                f"{self.unshuffle * 2 ** (len(self.widths) - 1)}, not {self.downsample}"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class TokenConfig:
    """Ids of the special tokens, and whether inference repeats the start token.

    The released inference feeds the start token twice (its own and the tokenizer's); training feeds it once.
    """

    bos: int = 100000
    eos: int = 100001
    start_of_image: int = 100003
    end_of_image: int = 100580
    doubled_bos: bool = False


@dataclass(frozen=True, config=STRICT)
class PreprocessingConfig:
    """How pixels become model input; names as in `data.transforms`."""

    transform: Literal["pad", "released", "released_eval", "released_gradio"] = "pad"
    mean: float = 0.555895
    std: float = 0.336385


@dataclass(frozen=True, config=STRICT)
class SamplingConfig:
    """What `engine.write_report` and `engine.draw_image` do when an argument is not given."""

    report_prompt: str = REPORT_PROMPT
    max_new_tokens: Positive = 256
    size_px: Positive = 512
    num_steps: Positive = 49
    guidance_scale: float = 2.0
    guidance_interval: tuple[float, float] = (0.4, 1.0)
    timestep_shift: float = 3.0
    renorm: Renorm = "global"
    renorm_min: float = 0.0
    solver: Solver = "euler"


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Everything that `config.json` of a native model directory says.

    `latent_grid` is the side of the 2-D position table; a smaller picture uses its corner, or with
    `stretch_positions` is spread over the whole table (the released option `interpolate_pos`).
    """

    name: str = "unix"
    vision: VisionConfig = VisionConfig()
    transformer: TransformerConfig = TransformerConfig()
    autoencoder: Annotated[KlAutoencoderConfig | PatchAutoencoderConfig, Field(discriminator="kind")] = (
        KlAutoencoderConfig()
    )
    latent_grid: Positive = 32
    stretch_positions: bool = False
    tokens: TokenConfig = TokenConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    sampling: SamplingConfig = SamplingConfig()
    licence: str = "unknown"
    training_data: str = "unknown"
    format_version: Literal[1] = 1

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        ids = (self.tokens.bos, self.tokens.eos, self.tokens.start_of_image, self.tokens.end_of_image)
        if max(ids) >= self.transformer.vocab_size or min(ids) < 0:
            raise ValueError(
                f"special token ids {ids} do not fit a vocabulary of {self.transformer.vocab_size}"
            )
        return self
