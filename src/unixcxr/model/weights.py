"""Model directories: native, released UniX and Janus-Pro ones recognised by one loader.

Tensors stay memory-mapped until they land, once, in their device and dtype; a tensor that is already right is
used from the map itself. Nothing is unpickled beyond plain tensors (`torch.load(weights_only=True)`).
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unixcxr.config import KlAutoencoderConfig, ModelConfig, from_mapping, to_mapping
from unixcxr.errors import ModelError, OutputError, WeightsError
from unixcxr.model import foreign
from unixcxr.model.autoencoder import Autoencoder, build_autoencoder
from unixcxr.model.layers import sincos_table
from unixcxr.model.unix import UniX, initialise
from unixcxr.runtime import find_model_dir

CONFIG, MODEL, AUTOENCODER, TOKENIZER = (
    "config.json",
    "model.safetensors",
    "autoencoder.safetensors",
    "tokenizer.json",
)
CARD, EXTRAS = "README.md", "released_extras.safetensors"


@dataclass(frozen=True)
class TensorFile:
    """One weights file whose tensors are read on demand: shapes first, data when asked for."""

    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]


@dataclass(frozen=True)
class ModelFiles:
    """What a directory holds: which layout, its config, and its tensors under our names."""

    layout: str
    directory: Path
    config: ModelConfig
    tensors: dict[str, Callable[[], Tensor]]
    autoencoder: TensorFile
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
    state: dict[str, Tensor] = {}
    if files.layout == "janus":
        model = initialise(UniX(config), torch.Generator().manual_seed(seed))
        state = dict(model.state_dict())
    else:
        with torch.device("meta"):
            model = UniX(config)
    _land(model, files.tensors, files.unexpected, files.directory, device, dtype, state)
    return model.eval()


def load_autoencoder(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
) -> Autoencoder:
    """Load the autoencoder of a model directory in eval mode."""
    files = open_model(path)
    with torch.device("meta"):
        autoencoder = build_autoencoder(files.config.autoencoder)
    source = files.autoencoder
    readers = {name: _reader(source, name) for name in source.shapes if not name.startswith("loss.")}
    _land(autoencoder, readers, [], files.directory, device, dtype, {})
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
    values = _read_json(directory / CONFIG)
    if "format_version" in values:
        return _open_native(directory, values)
    source = _open_weights(directory)
    if foreign.is_released(source.shapes):
        return _open_released(directory, values, source)
    if foreign.is_janus(source.shapes):
        return _open_janus(directory, values, source)
    raise ModelError(f"{directory}: neither a native, a released UniX nor a Janus-Pro model directory")


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str], to: str) -> Path:
    """Rewrite a model directory as "native" or "released", tensors unchanged in value and dtype.

    Tensors of the release that play no part travel along in a file of their own, so that there and back is
    bit-exact. Raises ModelError when the architecture has no place in the released layout.
    """
    files = open_model(source)
    directory = Path(target)
    if directory.exists() and any(directory.iterdir()):
        raise OutputError(f"{directory}: not empty; give a new directory")
    if files.layout == "janus":
        raise ModelError(
            f"{source}: a Janus-Pro directory starts a training; there is no UniX model in it to convert"
        )
    if files.unexpected:
        raise WeightsError(f"{source}: unexpected tensors: {_listed(files.unexpected)}")
    tensors = {name: read() for name, read in files.tensors.items()}
    autoencoder = {
        n: files.autoencoder.read(n) for n in files.autoencoder.shapes if not n.startswith("loss.")
    }
    extras = _unused_tensors(files)
    if to == "native":
        card = f"# {files.config.name}\n\nConverted from the released layout. {foreign.LICENCE_NOTE}\n"
        parts = {MODEL: tensors, AUTOENCODER: autoencoder} | ({EXTRAS: extras} if extras else {})
        return _write_native(directory, files.config, parts, files.directory / TOKENIZER, card, None)
    if not isinstance(files.config.autoencoder, KlAutoencoderConfig) or files.config.vision.stem != "patch":
        raise ModelError(
            f"{source}: only a model with a patch stem and a kl autoencoder has a released layout"
        )
    renamed = {foreign.released_name(name): tensor for name, tensor in tensors.items()}
    renamed["vit_model.vision_tower.pos_embed"] = renamed["vit_model.vision_tower.pos_embed"][None]
    if foreign.VIT_POSITIONS not in extras:
        extras[foreign.VIT_POSITIONS] = sincos_table(
            files.config.transformer.width, files.config.vision.grid_size
        ).to(tensors["latent_positions"].dtype)
    return _write_released(directory, files, renamed | extras, autoencoder)


def _open_native(directory: Path, values: dict[str, Any]) -> ModelFiles:
    config = from_mapping(ModelConfig, values, source=str(directory / CONFIG))
    source = _open_safetensors(directory / MODEL)
    readers = {name: _reader(source, name) for name in source.shapes}
    return ModelFiles("native", directory, config, readers, _open_safetensors(directory / AUTOENCODER), [])


def _open_released(directory: Path, values: dict[str, Any], source: TensorFile) -> ModelFiles:
    autoencoder = _open_weights_file(_released_autoencoder_path(directory, values))
    autoencoder = _without_prefix(autoencoder)
    config = foreign.released_config(source.shapes, values, foreign.kl_autoencoder_config(autoencoder.shapes))
    readers: dict[str, Callable[[], Tensor]] = {}
    unexpected = []
    for name in source.shapes:
        ours = foreign.native_name(name)
        if ours is not None:
            readers[ours] = _reader(source, name, squeeze=ours == "vision.positions")
        elif not foreign.is_unused(name):
            unexpected.append(name)
    return ModelFiles("released", directory, config, readers, autoencoder, unexpected)


def _open_janus(directory: Path, values: dict[str, Any], source: TensorFile) -> ModelFiles:
    config = foreign.released_config(source.shapes, values, KlAutoencoderConfig())
    readers: dict[str, Callable[[], Tensor]] = {}
    unexpected = []
    for name in source.shapes:
        for ours in foreign.janus_names(name):
            readers[ours] = _reader(source, name, squeeze=ours == "vision.positions")
        if not foreign.janus_names(name) and not foreign.is_unused_in_janus(name):
            unexpected.append(name)
    return ModelFiles("janus", directory, config, readers, TensorFile({}, _no_tensor), unexpected)


def _land(
    module: nn.Module,
    readers: Mapping[str, Callable[[], Tensor]],
    unexpected: list[str],
    directory: Path,
    device: torch.device | str,
    dtype: torch.dtype | None,
    state: dict[str, Tensor],
) -> None:
    """Put every tensor into the module, once, as it is to be; `state` holds what may stay missing."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    extra = sorted([*unexpected, *(readers.keys() - expected.keys())])
    missing = sorted(expected.keys() - readers.keys() - state.keys())
    problems = [f"unexpected {_listed(extra)}"] if extra else []
    problems += [f"missing {_listed(missing)}"] if missing else []
    misshaped = []
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


def _open_weights(directory: Path) -> TensorFile:
    """Open the model weights of a foreign directory: one file or shards, safetensors before torch pickles."""
    for index_name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (directory / index_name).exists() and not (directory / MODEL).exists():
            shards = sorted(set(_read_json(directory / index_name)["weight_map"].values()))
            return _joined([_open_weights_file(directory / shard) for shard in shards])
    for name in (MODEL, "pytorch_model.bin"):
        if (directory / name).exists():
            return _open_weights_file(directory / name)
    raise ModelError(f"{directory}: no {MODEL} in it; is the download complete? (unixcxr pull resumes one)")


def _open_weights_file(path: Path) -> TensorFile:
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)


def _open_safetensors(path: Path) -> TensorFile:
    if not path.exists():
        raise ModelError(f"{path}: missing; is the download complete? (unixcxr pull resumes one)")
    try:
        file = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise WeightsError(
            f"{path}: damaged or cut short ({error}); fetch it again with unixcxr pull"
        ) from None
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return TensorFile(shapes, file.get_tensor)


def _open_pickle(path: Path) -> TensorFile:
    if not path.exists():
        raise ModelError(f"{path}: missing; is the download complete? (unixcxr pull resumes one)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: not a plain tensor checkpoint, or cut short ({reason})") from None
    tensors: dict[str, Tensor] = content.get("state_dict", content)
    return TensorFile({name: tuple(t.shape) for name, t in tensors.items()}, tensors.__getitem__)


def _joined(files: list[TensorFile]) -> TensorFile:
    home = {name: file for file in files for name in file.shapes}
    shapes = {name: file.shapes[name] for name, file in home.items()}
    return TensorFile(shapes, lambda name: home[name].read(name))


def _without_prefix(file: TensorFile, prefix: str = "first_stage_model.") -> TensorFile:
    """Strip the prefix that a whole latent-diffusion checkpoint puts before its autoencoder."""
    if not any(name.startswith(prefix) for name in file.shapes):
        return file
    shapes = {n.removeprefix(prefix): s for n, s in file.shapes.items() if n.startswith(prefix)}
    return TensorFile(shapes, lambda name: file.read(prefix + name))


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


def _reader(source: TensorFile, name: str, squeeze: bool = False) -> Callable[[], Tensor]:
    return lambda: source.read(name)[0] if squeeze else source.read(name)


def _no_tensor(name: str) -> Tensor:
    raise ModelError(f"no autoencoder in a Janus-Pro directory (asked for {name}); train or name one")


def _unused_tensors(files: ModelFiles) -> dict[str, Tensor]:
    if files.layout == "released":
        source = _open_weights(files.directory)
        return {name: source.read(name) for name in source.shapes if foreign.is_unused(name)}
    if (files.directory / EXTRAS).exists():
        extras = _open_safetensors(files.directory / EXTRAS)
        return {name: extras.read(name) for name in extras.shapes}
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
        torch.save({"state_dict": _plain(autoencoder, None)}, partial / "vae" / "kl-f16d16.ckpt")
        shutil.copyfile(files.directory / TOKENIZER, partial / TOKENIZER)
        settings = {"add_bos_token": config.tokens.doubled_bos, "tokenizer_class": "LlamaTokenizerFast"}
        (partial / "tokenizer_config.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")
        text = json.dumps(foreign.released_json(config), indent=2)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
    return directory


@contextmanager
def _writing(directory: Path) -> Iterator[Path]:
    """Give a temporary directory that takes the place of `directory` when all is written, else vanishes."""
    partial = directory.with_name(directory.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if directory.exists():
            shutil.rmtree(directory)
        partial.replace(directory)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{directory}: cannot write the model ({error}); free space or choose another place"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _plain(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Return detached contiguous tensors, floating ones in `dtype` when given."""
    return {
        name: tensor.detach().to(dtype if dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in tensors.items()
    }


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ModelError(f"{path}: missing; a model directory holds a {path.name}")
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not JSON ({error}); fetch the model again") from None
    return values


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
