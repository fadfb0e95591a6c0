"""Models from the Hugging Face hub: which we know, pulling one with resume, and whether a folder is whole.

A model is downloaded into `<models dir>/<owner>--<name>.partial`, each file checked against the size and
the hash that the hub states, and the folder is renamed when all is there: without `.partial` it is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unixcxr.atomic import write_text
from unixcxr.errors import ModelError, OutputError, WeightsError
from unixcxr.runtime import models_dir

RECEIPT = "pulled.json"
"""Written into a pulled folder: repository, revision, licence, size and hash of every file."""

_SKIPPED_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".svg", ".mp4", ".pdf"})


@dataclass(frozen=True)
class KnownModel:
    """A model on the hub that this package can load, and where we know it from."""

    name: str
    repo_id: str
    about: str
    licence: str
    source: str


KNOWN = (
    KnownModel(
        "unix",
        "ZrH42/UniX",
        "the released UniX, 3.2 billion parameters, 512 px",
        "its authors'; see the model card",
        "linked as the weights in the README of github.com/ZrH42/UniX (arXiv 2601.11522)",
    ),
    KnownModel(
        "janus-pro-1b",
        "deepseek-ai/Janus-Pro-1B",
        "the language and vision model that stage 1 of training starts from",
        "MIT (code), DeepSeek Model License (weights)",
        "named as the starting point in arXiv 2601.11522",
    ),
)


@dataclass(frozen=True)
class HubFile:
    """One file as the hub describes it; `algorithm` is "sha256" (large files) or "git-sha1" (small ones)."""

    path: str
    size: int
    algorithm: str
    digest: str


def repo_id_of(name: str) -> str:
    """Return the hub id of a known model's short name; any other name is returned as it is."""
    return next((known.repo_id for known in KNOWN if known.name == name), name)


def local_dir(repo_id: str) -> Path:
    """Return where a pulled model lives; see `runtime.find_model_dir`."""
    return models_dir() / repo_id.replace("/", "--")


def pulled_models() -> Iterator[tuple[str, Path]]:
    """Yield (hub id, folder) of every wholly pulled model."""
    if models_dir().is_dir():
        for folder in sorted(models_dir().iterdir()):
            if folder.is_dir() and folder.suffix != ".partial":
                yield folder.name.replace("--", "/"), folder


def pull(name: str, say: Callable[[str], None]) -> Path:
    """Download a model, or what is missing of it, and return its folder.

    `say` receives one line per file; byte progress bars go to standard error. An interrupted pull continues
    where it stopped, within a file too.

    Raises ModelError when the hub does not have the model or cannot be reached, WeightsError when a file does
    not have the promised size or hash, OutputError when it cannot be stored.
    """
    repo_id = repo_id_of(name)
    if repo_id.count("/") != 1:
        short = ", ".join(known.name for known in KNOWN)
        raise ModelError(f"{name!r} is neither a known model ({short}) nor a hub id of the form owner/name")
    revision, licence, files = _list_files(repo_id)
    folder = local_dir(repo_id)
    partial = folder.with_name(folder.name + ".partial")
    try:
        if folder.is_dir():
            if _receipt(folder).get("revision") == revision and not damage(folder):
                return folder
            folder.rename(partial)
        partial.mkdir(parents=True, exist_ok=True)
        _require_space(partial, files)
        for number, file in enumerate(files, 1):
            say(f"[{number}/{len(files)}] {file.path} ({file.size / 1e6:.1f} MB)")
            _fetch(repo_id, revision, file, partial)
        stated = {file.path: {"size": file.size, file.algorithm: file.digest} for file in files}
        receipt = {"repo_id": repo_id, "revision": revision, "licence": licence, "files": stated}
        write_text(partial / RECEIPT, json.dumps(receipt, indent=1))
        partial.rename(folder)
    except OSError as error:
        raise OutputError(f"cannot store {repo_id} in {folder.parent}: {error.strerror or error}") from error
    return folder


def damage(folder: Path) -> list[str]:
    """Return what is wrong with a model folder, without loading it: nothing when it is whole.

    Compares sizes with the receipt of a pull, and the length of each safetensors file with its own header.
    """
    if not folder.is_dir():
        return ["the folder is missing"]
    found = [] if (folder / "config.json").is_file() else ["config.json is missing"]
    for path, stated in _receipt(folder).get("files", {}).items():
        file = folder / path
        if not file.is_file():
            found.append(f"{path} is missing")
        elif file.stat().st_size != stated["size"]:
            found.append(f"{path} has {file.stat().st_size} bytes instead of {stated['size']}")
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights and not list(folder.rglob("*.bin")):
        found.append("there are no weights")
    found += [f"{path.relative_to(folder)} is cut short" for path in weights if not _is_whole(path)]
    return found


def size_of(folder: Path) -> int:
    """Return the bytes in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def licence_of(folder: Path) -> str:
    """Return the licence that a model folder states, in its receipt or its config.json."""
    stated = _receipt(folder).get("licence") or _read_json(folder / "config.json").get("licence")
    return str(stated or "not stated")


def _list_files(repo_id: str) -> tuple[str, str, list[HubFile]]:
    from huggingface_hub import HfApi

    with _hub_errors(repo_id):
        info = HfApi().model_info(repo_id, files_metadata=True)
    files = []
    for entry in info.siblings or ():
        path = PurePosixPath(entry.rfilename)
        if path.is_absolute() or ".." in path.parts:
            raise ModelError(f"{repo_id} names a file outside its folder ({entry.rfilename!r}); not pulled")
        if path.suffix.lower() in _SKIPPED_SUFFIXES or path.name == ".gitattributes":
            continue
        if entry.lfs is not None:
            files.append(HubFile(entry.rfilename, entry.lfs.size, "sha256", entry.lfs.sha256))
        elif entry.size is not None and entry.blob_id is not None:
            files.append(HubFile(entry.rfilename, entry.size, "git-sha1", entry.blob_id))
        else:
            raise ModelError(
                f"the hub states no size and hash for {entry.rfilename} of {repo_id}; cannot check it"
            )
    if info.sha is None or not files:
        raise ModelError(f"{repo_id} holds no files on the hub")
    card: Any = info.card_data or {}
    return info.sha, str(card.get("license") or ""), files


def _fetch(repo_id: str, revision: str, file: HubFile, folder: Path) -> None:
    """Download one file, or the rest of it, and move it into place once its hash is right."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    target = folder / file.path
    if target.is_file() and _digest(target, file.algorithm) == file.digest:
        return
    partial = target.with_name(f"{target.name}.{file.digest[:12]}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("ab") as stream, _hub_errors(repo_id):
        if stream.tell() < file.size:
            http_get(
                hf_hub_url(repo_id, file.path, revision=revision),
                stream,
                resume_size=stream.tell(),
                headers=build_hf_headers(library_name="unixcxr") | {"Accept-Encoding": "identity"},
                displayed_filename=file.path,
            )
    size, digest = partial.stat().st_size, _digest(partial, file.algorithm)
    if (size, digest) != (file.size, file.digest):
        partial.unlink()
        raise WeightsError(
            f"{file.path} of {repo_id} arrived with {size} bytes, {file.algorithm} {digest[:12]}; expected "
            f"{file.size} bytes, {file.digest[:12]}; it was thrown away, pull again"
        )
    partial.replace(target)


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the hub client raises into one line of our own."""
    import httpx2
    from huggingface_hub import errors

    again = f"run `unixcxr pull {repo_id}` again to go on"
    try:
        yield
    except errors.HFValidationError as error:
        raise ModelError(f"{repo_id!r} is not a valid hub id (owner/name)") from error
    except errors.GatedRepoError as error:
        raise ModelError(f"{repo_id} asks for your consent on its hub page, and a login") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no public model {repo_id}; check the name (owner/name)") from error
    except errors.HfHubHTTPError as error:
        raise ModelError(f"the hub answered {error.response.status_code} for {repo_id}; {again}") from error
    except errors.OfflineModeIsEnabled as error:
        raise ModelError("HF_HUB_OFFLINE is set, so nothing can be pulled; unset it") from error
    except httpx2.HTTPError as error:
        raise ModelError(f"the hub cannot be reached ({type(error).__name__}); {again}") from error


def _require_space(folder: Path, files: list[HubFile]) -> None:
    missing = sum(file.size for file in files) - size_of(folder)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise OutputError(
            f"{missing / 1e9:.1f} GB are needed in {folder.parent} and {free / 1e9:.1f} GB are free; "
            "free some space or point UNIXCXR_MODELS elsewhere"
        )


def _digest(path: Path, algorithm: str) -> str:
    """Hash a file as the hub does: sha256 of its bytes, or git's sha1 of "blob <size>\\0" and its bytes."""
    if algorithm == "sha256":
        hasher = hashlib.sha256()
    else:
        hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()


def _is_whole(path: Path) -> bool:
    """Return whether a safetensors file is as long as its header says (8 bytes of length, JSON, tensors)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= path.stat().st_size - 8:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return path.stat().st_size == 8 + length + max(ends, default=0)


def _receipt(folder: Path) -> dict[str, Any]:
    return _read_json(folder / RECEIPT)


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, or an empty one where there is no such file or it holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
