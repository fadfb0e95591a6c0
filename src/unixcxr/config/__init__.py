"""Settings: frozen dataclasses, validated on construction, read from one file, unknown keys refused."""

from unixcxr.config.base import STRICT, from_mapping, to_mapping
from unixcxr.config.model import (
    KlAutoencoderConfig,
    ModelConfig,
    PatchAutoencoderConfig,
    PreprocessingConfig,
    SamplingConfig,
    TokenConfig,
    TransformerConfig,
    VisionConfig,
)

__all__ = [
    "STRICT",
    "KlAutoencoderConfig",
    "ModelConfig",
    "PatchAutoencoderConfig",
    "PreprocessingConfig",
    "SamplingConfig",
    "TokenConfig",
    "TransformerConfig",
    "VisionConfig",
    "from_mapping",
    "to_mapping",
]
