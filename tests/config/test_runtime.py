"""Devices, dtypes and model directories by name, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unixcxr import runtime
from unixcxr.errors import ConfigError, ModelError


def test_devices(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.choose_device(device).type == device
    assert runtime.choose_device("auto").type == runtime.available_devices()[-1]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.choose_device("auto").type == "cuda"
    assert runtime.choose_device("cuda:0") == torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert runtime.choose_device("auto").type == "cpu"
    for name in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=rf"'{name}' is not on this machine; it has: cpu"):
            runtime.choose_device(name)
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        runtime.choose_device("gpu")


def test_dtypes() -> None:
    assert runtime.choose_dtype("bfloat16") == torch.bfloat16
    with pytest.raises(ConfigError, match=r"unknown dtype 'fp8'.*float32, bfloat16, float16"):
        runtime.choose_dtype("fp8")


def test_model_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIXCXR_MODELS", str(tmp_path / "models"))
    pulled = tmp_path / "models" / "owner--model"
    pulled.mkdir(parents=True)
    assert runtime.find_model_dir(tmp_path) == tmp_path
    assert runtime.find_model_dir("owner/model") == pulled
    assert runtime.find_model_dir("embedded") == Path(runtime.__file__).parent / "assets" / "embedded"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert runtime.find_model_dir("~/models") == tmp_path / "models"
    file = tmp_path / "model.safetensors"
    file.touch()
    for name, hint in (
        (str(file), "a file, not a model directory"),
        ("owner/other", "try: unixcxr pull owner/other"),
        ("nothing", "try: unixcxr models"),
    ):
        with pytest.raises(ModelError, match=hint):
            runtime.find_model_dir(name)


def test_without_an_override_models_live_in_the_user_s_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNIXCXR_MODELS", raising=False)
    assert runtime.models_dir().parts[-2:] == ("unixcxr", "models")
