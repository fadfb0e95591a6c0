"""Model directories: native, released UniX and Janus-Pro ones recognised by one loader.

Tensors stay memory-mapped until they land, once, in their device and dtype; a tensor that is already right is
used from the map itself.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from unixcxr.config import KlAutoencoderConfig, ModelConfig, from_mapping, to_mapping
from unixcxr.errors import ModelError, OutputError, WeightsError
from unixcxr.model import foreign
from unixcxr.model.autoencoder import Autoencoder, build_autoencoder
from unixcxr.model.layers import sincos_table
from unixcxr.model.tensor_files import INCOMPLETE, TensorFile, open_model_tensors, open_tensors, read_json
from unixcxr.model.unix import UniX, draw_parameter
from unixcxr.runtime import find_model_dir

CONFIG, MODEL, AUTOENCODER, TOKENIZER = (
    "config.json",
    "model.safetensors",
    "autoencoder.safetensors",
    "tokenizer.json",
)
CARD, EXTRAS = "README.md", "released_extras.safetensors"

Reader = Callable[[], Tensor]
"""Reads one tensor from its file."""


@dataclass(frozen=True)
class ModelFiles:
    """What a directory holds: which layout, its config, and its tensors under our names.

    A Janus-Pro directory has no autoencoder.
    """

    layout: str
    directory: Path
    config: ModelConfig
    tensors: dict[str, Reader]
    autoencoder: TensorFile | None
    unexpected: list[str]


def load_config(path: str | os.PathLike[str]) -> ModelConfig:
    """Read the config of a model directory, native or foreign."""
    return open_model(path).config


def load_model(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
    *,
    rope_frequencies: Literal["float32", "bfloat16"] | None = None,
    seed: int = 0,
) -> UniX:
    """Load the bare module in eval mode; `dtype=None` keeps the file's.

    `rope_frequencies` overrides the rounding that the config asks for. A Janus-Pro directory fills both streams
    from its language model and draws the rest from `seed`.
    Raises WeightsError that names every missing, unexpected and mis-shaped tensor.
    """
    files = open_model(path)
    config = files.config
    if rope_frequencies is not None:
        config = replace(config, transformer=replace(config.transformer, rope_frequencies=rope_frequencies))
    with torch.device("meta"):
        model = UniX(config)
    tensors = dict(files.tensors)
    if files.layout == "janus":
        drawn_in = dtype or tensors["embed_tokens.weight"]().dtype
        tensors = _fresh_tensors(model, drawn_in, torch.Generator().manual_seed(seed)) | tensors
    _land(model, tensors, files.unexpected, files.directory, device, dtype)
    return model.eval()


def load_autoencoder(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
) -> Autoencoder:
    """Load the autoencoder of a model directory in eval mode.

    Raises WeightsError as `load_model` does, and ModelError for a Janus-Pro directory, which has none.
    """
    files = open_model(path)
    if files.autoencoder is None:
        raise ModelError(f"{path}: a Janus-Pro directory has no autoencoder; take a UniX model's")
    with torch.device("meta"):
        autoencoder = build_autoencoder(files.config.autoencoder)
    _land(autoencoder, _readers(files.autoencoder), [], files.directory, device, dtype)
    return autoencoder.eval()


def save_model(
    directory: str | os.PathLike[str],
    config: ModelConfig,
    model: UniX,
    autoencoder: Autoencoder,
    tokenizer_path: str | os.PathLike[str],
    card: str,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a native model directory; `dtype` converts floating tensors on the way."""
    parts = {MODEL: model.state_dict(), AUTOENCODER: autoencoder.state_dict()}
    return _write_native(Path(directory), config, parts, Path(tokenizer_path), card, dtype)


def open_model(path: str | os.PathLike[str]) -> ModelFiles:
    """Recognise a model directory and describe it without reading tensor data.

    Raises ModelError or WeightsError saying what is missing or damaged.
    """
    directory = find_model_dir(path)
    values = read_json(directory / CONFIG)
    if "format_version" in values:
        return _open_native(directory, values)
    source = open_model_tensors(directory)
    if foreign.is_released(source.shapes):
        return _open_released(directory, values, source)
    if foreign.is_janus(source.shapes):
        return _open_janus(directory, values, source)
    raise ModelError(f"{directory}: neither a native, a released UniX nor a Janus-Pro model directory")


def convert(
    source: str | os.PathLike[str], target: str | os.PathLike[str], to: Literal["native", "released"]
) -> Path:
    """Rewrite a model directory in the other layout, tensors unchanged in value and dtype.

    Tensors of the release that play no part travel along in a file of their own, so that there and back is
    bit-exact. Raises ModelError when the released layout has no place for the architecture.
    """
    files = open_model(source)
    directory = Path(target)
    if _is_occupied(directory):
        raise OutputError(f"{directory}: not empty; give a new directory")
    if files.autoencoder is None:
        raise ModelError(
            f"{source}: a Janus-Pro directory starts a training; there is no UniX model in it to convert"
        )
    if files.layout == to:
        raise ModelError(f"{source}: in the {to} layout already; copy the directory")
    if files.unexpected:
        raise WeightsError(f"{source}: unexpected tensors: {_listed(files.unexpected)}")
    tensors = {name: read() for name, read in files.tensors.items()}
    autoencoder = {name: read() for name, read in _readers(files.autoencoder).items()}
    extras = _unused_tensors(files)
    if to == "native":
        card = f"# {files.config.name}\n\nConverted from the released layout. {foreign.LICENCE_NOTE}\n"
        parts = {MODEL: tensors, AUTOENCODER: autoencoder} | ({EXTRAS: extras} if extras else {})
        return _write_native(directory, files.config, parts, files.directory / TOKENIZER, card, None)
    foreign.require_releasable(files.config)
    renamed = {foreign.released_name(name): tensor for name, tensor in tensors.items()}
    renamed["vit_model.vision_tower.pos_embed"] = renamed["vit_model.vision_tower.pos_embed"][None]
    if foreign.VIT_POSITIONS not in extras:
        extras[foreign.VIT_POSITIONS] = sincos_table(
            files.config.transformer.width, files.config.vision.grid_size
        ).to(tensors["latent_positions"].dtype)
    return _write_released(directory, files, renamed | extras, autoencoder)


def _open_native(directory: Path, values: dict[str, Any]) -> ModelFiles:
    config = from_mapping(ModelConfig, values, source=str(directory / CONFIG))
    tensors = _readers(open_tensors(directory / MODEL))
    return ModelFiles("native", directory, config, tensors, open_tensors(directory / AUTOENCODER), [])


def _open_released(directory: Path, values: dict[str, Any], source: TensorFile) -> ModelFiles:
    path = _released_autoencoder_path(directory, values)
    # a whole latent-diffusion checkpoint holds its autoencoder below a prefix, and what it was trained with
    autoencoder = open_tensors(path).below("first_stage_model.").without("loss.")
    with _described_by(path):
        autoencoder_config = foreign.kl_autoencoder_config(autoencoder.shapes)
    with _described_by(directory):
        config = foreign.released_config(source.shapes, values, autoencoder_config)
    tensors: dict[str, Reader] = {}
    unexpected = []
    for name in source.shapes:
        ours = foreign.native_name(name)
        if ours is not None:
            tensors[ours] = _reader(source, name, squeeze=ours == "vision.positions")
        elif not foreign.is_unused(name):
            unexpected.append(name)
    return ModelFiles("released", directory, config, tensors, autoencoder, unexpected)


def _open_janus(directory: Path, values: dict[str, Any], source: TensorFile) -> ModelFiles:
    with _described_by(directory):
        config = foreign.released_config(source.shapes, values, KlAutoencoderConfig())
    tensors: dict[str, Reader] = {}
    unexpected = []
    for name in source.shapes:
        names = foreign.janus_names(name)
        for stream, ours in enumerate(names):
            # the second stream is a copy: both are trained, each its own way
            tensors[ours] = _reader(source, name, squeeze=ours == "vision.positions", copy=stream > 0)
        if not names and not foreign.is_unused_in_janus(name):
            unexpected.append(name)
    return ModelFiles("janus", directory, config, tensors, None, unexpected)


@contextmanager
def _described_by(path: Path) -> Iterator[None]:
    """Turn sizes that cannot be read off tensors and config.json into an error that says which."""
    try:
        yield
    except KeyError as error:
        raise WeightsError(f"{path}: {error.args[0]} is missing; {INCOMPLETE}") from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{path}: weights and config.json describe no model that can be built: {reason}"
        ) from None


def _fresh_tensors(model: UniX, dtype: torch.dtype, generator: torch.Generator) -> dict[str, Reader]:
    """Draw anew what a Janus-Pro model does not have."""
    config = model.config

    def draw(name: str, shape: torch.Size) -> Tensor:
        if name == "latent_positions":
            return sincos_table(config.transformer.width, config.latent_grid).to(dtype)
        return draw_parameter(name, torch.empty(shape, dtype=dtype), config.transformer.num_layers, generator)

    return {
        name: functools.partial(draw, name, tensor.shape)
        for name, tensor in model.state_dict().items()
        if foreign.is_new_to_janus(name)
    }


def _land(
    module: nn.Module,
    readers: Mapping[str, Reader],
    unexpected: list[str],
    directory: Path,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> None:
    """Put every tensor into the module, once, as it is to be."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    extra = sorted([*unexpected, *(readers.keys() - expected.keys())])
    missing = sorted(expected.keys() - readers.keys())
    problems = [f"unexpected {_listed(extra)}"] if extra else []
    problems += [f"missing {_listed(missing)}"] if missing else []
    misshaped = []
    state: dict[str, Tensor] = {}
    for name in sorted(readers.keys() & expected.keys()):
        tensor = readers[name]()
        if tuple(tensor.shape) != expected[name]:
            misshaped.append(f"{name} (found {list(tensor.shape)}, expected {list(expected[name])})")
        elif not problems:
            state[name] = tensor.to(device, dtype if tensor.is_floating_point() else None)
    problems += [f"mis-shaped {_listed(misshaped)}"] if misshaped else []
    if problems:
        raise WeightsError(f"{directory}: weights do not fit the architecture: {'; '.join(problems)}")
    module.load_state_dict(state, assign=True)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name != "latent_positions")


def _released_autoencoder_path(directory: Path, values: Mapping[str, Any]) -> Path:
    named = values.get("vae_path")
    if named and (directory / named).exists():
        return directory / named
    found: Iterator[Path] = (
        p for suffix in ("safetensors", "ckpt") for p in sorted(directory.glob(f"vae/*.{suffix}"))
    )
    path = next(found, None)
    if path is None:
        raise ModelError(f"{directory}: no autoencoder in it; expected vae/*.safetensors or vae/*.ckpt")
    return path


def _readers(source: TensorFile) -> dict[str, Reader]:
    return {name: _reader(source, name) for name in source.shapes}


def _reader(source: TensorFile, name: str, squeeze: bool = False, copy: bool = False) -> Reader:
    def read() -> Tensor:
        tensor = source.read(name)
        tensor = tensor[0] if squeeze else tensor
        return tensor.clone() if copy else tensor

    return read


def _unused_tensors(files: ModelFiles) -> dict[str, Tensor]:
    if files.layout == "released":
        source = open_model_tensors(files.directory)
        return {name: source.read(name) for name in source.shapes if foreign.is_unused(name)}
    if (files.directory / EXTRAS).exists():
        return {name: read() for name, read in _readers(open_tensors(files.directory / EXTRAS)).items()}
    return {}


def _write_native(
    directory: Path,
    config: ModelConfig,
    parts: Mapping[str, Mapping[str, Tensor]],
    tokenizer_path: Path,
    card: str,
    dtype: torch.dtype | None,
) -> Path:
    with _writing(directory) as partial:
        for name, tensors in parts.items():
            save_file(_plain(tensors, dtype), partial / name)
        shutil.copyfile(tokenizer_path, partial / TOKENIZER)
        (partial / CONFIG).write_text(json.dumps(to_mapping(config), indent=2) + "\n", encoding="utf-8")
        (partial / CARD).write_text(card, encoding="utf-8")
    return directory


def _write_released(
    directory: Path, files: ModelFiles, tensors: dict[str, Tensor], autoencoder: dict[str, Tensor]
) -> Path:
    config = files.config
    with _writing(directory) as partial:
        save_file(_plain(tensors, None), partial / MODEL)
        (partial / "vae").mkdir()
        _save_checkpoint({"state_dict": _plain(autoencoder, None)}, partial / "vae" / "kl-f16d16.ckpt")
        shutil.copyfile(files.directory / TOKENIZER, partial / TOKENIZER)
        settings = {"add_bos_token": config.tokens.doubled_bos, "tokenizer_class": "LlamaTokenizerFast"}
        (partial / "tokenizer_config.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")
        text = json.dumps(foreign.released_json(config), indent=2)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
    return directory


def _save_checkpoint(content: dict[str, Any], path: Path) -> None:
    try:
        torch.save(content, path)
    except RuntimeError as error:  # what torch's writer makes of a full disk
        raise OSError(str(error).partition("\n")[0]) from error


@contextmanager
def _writing(directory: Path) -> Iterator[Path]:
    """Give a temporary directory that takes the place of `directory` when all is written, else vanishes.

    An older model there is replaced; a directory of anything else is refused.
    """
    directory = directory.resolve()
    if _is_occupied(directory) and not (directory / CONFIG).exists():
        raise OutputError(f"{directory}: not empty and no model directory; give a new directory")
    partial, replaced = (directory.with_name(directory.name + suffix) for suffix in (".partial", ".replaced"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for path in partial.rglob("*"):  # safetensors lets only the owner read what it writes
            path.chmod(path.stat().st_mode | (partial.stat().st_mode & 0o044))
        if directory.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            directory.replace(replaced)
        partial.replace(directory)
        shutil.rmtree(replaced, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{directory}: cannot write the model ({error}); free space or choose another place"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_occupied(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _plain(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Return detached contiguous tensors, floating ones in `dtype` when given."""
    return {
        name: tensor.detach().to(dtype if dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in tensors.items()
    }


def _listed(names: list[str]) -> str:
    """Name every tensor, those that differ in one number together: blocks.{0,1,2}.und.q_proj.weight."""
    groups: dict[str, list[str]] = {}
    for name in names:
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        pattern = name[: number.start()] + "{}" + name[number.end() :] if number else name
        groups.setdefault(pattern, []).append(number[0] if number else "")
    return ", ".join(
        pattern.replace("{}", f"{{{','.join(numbers)}}}" if len(numbers) > 1 else numbers[0])
        for pattern, numbers in groups.items()
    )
