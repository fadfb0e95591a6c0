"""Model directories: saved, converted and loaded bit for bit; every defect named; nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model import reference, released, tiny
from unixcxr.config import PatchAutoencoderConfig
from unixcxr.data.collate import collate
from unixcxr.errors import ConfigError, ModelError, OutputError, WeightsError
from unixcxr.model import foreign
from unixcxr.model.patch_autoencoder import PatchAutoencoder
from unixcxr.model.weights import convert, load_autoencoder, load_config, load_model, save_model

SHAPES = released.released_shapes(released.TINY)
REPA = "language_model.model.repa_loss_fn.projectors.0.mlp.0.weight"


@pytest.fixture
def native(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "native")


@pytest.fixture
def foreign_dir(tmp_path: Path) -> Path:
    return released.write(tmp_path / "released", released.draw(SHAPES))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Say whether two state dicts agree in names, dtypes and every bit."""
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


class TestNative:
    def test_save_and_load_are_bit_exact(self, native: Path) -> None:
        assert load_config(native) == tiny.CONFIG
        assert same(load_model(native).state_dict(), tiny.build().state_dict())
        assert same(load_autoencoder(native).state_dict(), released.autoencoder_tensors())
        names = ["README.md", "autoencoder.safetensors", "config.json", "model.safetensors", "tokenizer.json"]
        assert tree(native) == names

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_dtypes_on_the_way_in_and_out(self, tmp_path: Path, dtype: torch.dtype) -> None:
        model = tiny.build()
        autoencoder = load_autoencoder(tiny.save(tmp_path / "full"))
        tokenizer = tmp_path / "full" / "tokenizer.json"
        saved = save_model(tmp_path / "half", tiny.CONFIG, model, autoencoder, tokenizer, "card", dtype)
        assert {t.dtype for t in load_file(saved / "model.safetensors").values()} == {dtype}
        expected = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
        assert same(load_model(saved, dtype=None).state_dict(), expected)
        assert same(load_model(saved).state_dict(), {n: t.float() for n, t in expected.items()})
        assert {p.dtype for p in load_autoencoder(saved, dtype=dtype).parameters()} == {dtype}

    def test_loaded_models_are_ready_to_run_or_train(self, native: Path, device: str) -> None:
        model = load_model(native, device)
        assert not model.training
        assert not load_autoencoder(native, device).training
        assert {p.device.type for p in model.parameters()} == {device}
        fixed = [name for name, p in model.named_parameters() if not p.requires_grad]
        assert fixed == ["latent_positions"]
        before = (native / "model.safetensors").read_bytes()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        assert (native / "model.safetensors").read_bytes() == before, "weights are mapped privately"

    def test_integers_keep_their_dtype(self, native: Path) -> None:
        """A dtype is for floating tensors; buffers of the patch autoencoder go along."""
        config = replace(tiny.CONFIG, autoencoder=PatchAutoencoderConfig(latent_channels=3))
        autoencoder = PatchAutoencoder(config.autoencoder)
        autoencoder.latent_mean.fill_(0.3)
        model = tiny.build(config)
        save_model(
            native, config, model, autoencoder, native.parent / "native-tokenizer.json", "", torch.half
        )
        loaded = load_autoencoder(native)
        assert loaded.latent_mean.tolist() == pytest.approx([0.3] * 3, abs=1e-3)
        assert loaded.latent_mean.dtype == torch.float32

    @pytest.mark.parametrize("frequencies", ["float32", "bfloat16"])
    def test_rope_frequencies_override_the_config(self, native: Path, frequencies: Any) -> None:
        model = load_model(native, rope_frequencies=frequencies)
        assert model.config.transformer.rope_frequencies == frequencies
        assert model.rounds_rope == (frequencies == "bfloat16")
        assert not load_model(native).rounds_rope


class TestReleased:
    @pytest.mark.parametrize("values", [released.JANUS_CONFIG, released.UNIX_CONFIG], ids=["janus", "unix"])
    @torch.no_grad()
    def test_what_is_loaded_computes_what_the_names_say(self, tmp_path: Path, values: dict[str, Any]) -> None:
        """Released tensors straight into the slow reference, and through the loader into the model."""
        tensors = released.draw(SHAPES)
        model = load_model(released.write(tmp_path / "released", tensors, values))
        weights = {name: tensor.double() for name, tensor in tensors.items()}
        for sample in tiny.SAMPLES.values():
            expected = reference.run(weights, tiny.RELEASABLE, sample)
            output = model(collate([sample], model.config))
            assert torch.allclose(output.und[0].double(), expected.und, atol=2e-5, rtol=2e-5)
            if output.velocity is not None:
                assert torch.allclose(output.velocity[0].double(), expected.velocity, atol=2e-5, rtol=2e-5)

    def test_it_is_read_as_the_released_inference_runs_it(self, foreign_dir: Path) -> None:
        config = load_config(foreign_dir)
        assert config.tokens == tiny.RELEASABLE.tokens
        assert config.tokens.doubled_bos
        assert config.vision.connector_gelu == "tanh"
        assert config.preprocessing.transform == "released"
        for dtype, rounds in ((torch.float32, False), (torch.bfloat16, True), (torch.float16, False)):
            assert load_model(foreign_dir, dtype=dtype).rounds_rope == rounds
        assert load_model(foreign_dir, rope_frequencies="bfloat16").rounds_rope

    def test_there_and_back_is_bit_exact(self, tmp_path: Path) -> None:
        """Every released tensor, those that play no part included, in mixed dtypes."""
        tensors = released.draw(SHAPES, dtype=torch.bfloat16) | {REPA: torch.randn(4, 24)}
        tensors["llm2vae.bias"] = torch.randn(3)
        source = released.write(tmp_path / "released", tensors)
        middle = convert(source, tmp_path / "native", "native")
        assert load_config(middle) == load_config(source)
        assert same(load_model(middle, dtype=None).state_dict(), load_model(source, dtype=None).state_dict())
        assert same(load_autoencoder(middle).state_dict(), released.autoencoder_tensors())
        back = convert(middle, tmp_path / "back", "released")
        assert same(load_file(back / "model.safetensors"), tensors)
        assert same(load_autoencoder(back).state_dict(), released.autoencoder_tensors())
        assert load_config(back) == load_config(source)
        assert (back / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()

    def test_a_native_model_there_and_back(self, tmp_path: Path) -> None:
        native = tiny.save(tmp_path / "native", tiny.RELEASABLE)
        written = convert(native, tmp_path / "released", "released")
        shapes = {name: tuple(t.shape) for name, t in load_file(written / "model.safetensors").items()}
        assert shapes == {n: s for n, s in SHAPES.items() if "attn_pool" not in n}
        back = convert(written, tmp_path / "back", "native")
        assert same(load_file(back / "model.safetensors"), load_file(native / "model.safetensors"))
        assert same(
            load_file(back / "autoencoder.safetensors"), load_file(native / "autoencoder.safetensors")
        )

    @pytest.mark.parametrize("kind", ["safetensors", "bin"])
    @pytest.mark.parametrize("num_shards", [1, 3])
    def test_shards_and_torch_files_are_the_same_model(
        self, foreign_dir: Path, kind: str, num_shards: int
    ) -> None:
        expected = load_model(foreign_dir).state_dict()
        whole = foreign_dir / "model.safetensors"
        tensors = load_file(whole)
        whole.unlink()
        stem = "model" if kind == "safetensors" else "pytorch_model"
        write: Callable[..., None] = save_file if kind == "safetensors" else torch.save
        weight_map = {}
        for shard in range(num_shards):
            number = f"-{shard + 1:05}-of-{num_shards:05}" if num_shards > 1 else ""
            part = {name: tensors[name].clone() for name in sorted(tensors)[shard::num_shards]}
            weight_map |= dict.fromkeys(part, f"{stem}{number}.{kind}")
            write(part, foreign_dir / f"{stem}{number}.{kind}")
        if num_shards > 1:
            index = foreign_dir / f"{stem}.{kind}.index.json"
            index.write_text(json.dumps({"weight_map": weight_map}))
        assert same(load_model(foreign_dir).state_dict(), expected)
        next(foreign_dir.glob(f"{stem}*.{kind}")).unlink()
        with pytest.raises(ModelError, match="is the download complete"):
            load_model(foreign_dir)

    def test_safetensors_come_before_torch_files(self, foreign_dir: Path) -> None:
        torch.save({"embed": torch.zeros(1)}, foreign_dir / "pytorch_model.bin")
        assert load_model(foreign_dir).embed_tokens.weight.any()

    @pytest.mark.parametrize("prefix", ["", "first_stage_model."])
    @pytest.mark.parametrize("form", ["ckpt", "bare ckpt", "old ckpt", "safetensors"])
    def test_the_autoencoder_s_files(self, foreign_dir: Path, prefix: str, form: str) -> None:
        """Losses, epochs and whole latent-diffusion checkpoints are read past; old torch files still open."""
        path = foreign_dir / "vae" / "kl.ckpt"
        tensors = {prefix + name: tensor for name, tensor in released.autoencoder_tensors().items()}
        tensors[prefix + "loss.logvar"] = torch.zeros(1)
        if prefix:
            tensors["model.diffusion.weight"] = torch.zeros(2)
        if form == "safetensors":
            path.unlink()
            save_file(tensors, path.with_suffix(".safetensors"))
        elif form == "bare ckpt":
            torch.save({**tensors, "global_step": 7}, path)
        else:
            torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=form != "old ckpt")
        assert same(load_autoencoder(foreign_dir).state_dict(), released.autoencoder_tensors())

    def test_a_named_autoencoder_comes_first(self, tmp_path: Path) -> None:
        source = released.write(tmp_path / "r", released.draw(SHAPES), released.UNIX_CONFIG)
        other = {name: tensor + 1 for name, tensor in released.autoencoder_tensors().items()}
        save_file(other, source / "vae" / "other.safetensors")
        assert same(load_autoencoder(source).state_dict(), released.autoencoder_tensors())


class TestJanus:
    @pytest.fixture
    def janus(self, tmp_path: Path) -> Path:
        directory = tmp_path / "janus"
        directory.mkdir()
        tensors = released.draw(released.janus_shapes(released.TINY), dtype=torch.bfloat16)
        torch.save(tensors, directory / "pytorch_model.bin")
        (directory / "config.json").write_text(json.dumps(released.JANUS_CONFIG))
        return directory

    def test_both_streams_are_the_language_model(self, janus: Path) -> None:
        theirs = torch.load(janus / "pytorch_model.bin")
        model = load_model(janus)
        for layer, block in enumerate(model.blocks):
            prefix = f"language_model.model.layers.{layer}."
            for stream in (block.und, block.gen):
                assert torch.equal(stream.v_proj.weight, theirs[prefix + "self_attn.v_proj.weight"].float())
                assert torch.equal(stream.mlp.down.weight, theirs[prefix + "mlp.down_proj.weight"].float())
                assert not stream.q_proj.bias.any()
                assert (stream.k_norm.weight == 1).all()
        assert torch.equal(model.norm_gen.weight, model.norm_und.weight)
        assert torch.equal(model.text_head.weight, theirs["language_model.lm_head.weight"].float())
        assert torch.equal(model.connector.out.bias, theirs["aligner.layers.2.bias"].float())
        stem = theirs["vision_model.vision_tower.patch_embed.proj.weight"].float()
        assert torch.equal(model.vision.stem.weight, stem)
        assert model.config.vision.connector_gelu == "erf"

    def test_the_rest_is_drawn_from_the_seed(self, janus: Path) -> None:
        a, b, c = (load_model(janus, seed=seed) for seed in (1, 1, 2))
        assert same(a.state_dict(), b.state_dict())
        assert not torch.equal(a.time_embed.hidden.weight, c.time_embed.hidden.weight)
        assert a.time_embed.out.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert not a.latent_out.weight.any()
        assert torch.equal(a.latent_positions, tiny.build(a.config).latent_positions)
        assert not a.latent_positions.requires_grad

    def test_what_it_has_is_not_drawn_anew(self, janus: Path) -> None:
        path = janus / "pytorch_model.bin"
        bias = {"language_model.model.layers.1.self_attn.k_proj.bias": torch.full((12,), 0.5)}
        torch.save(torch.load(path) | bias, path)
        model = load_model(janus)
        assert (model.blocks[1].gen.k_proj.bias == 0.5).all()
        assert not model.blocks[0].gen.k_proj.bias.any()

    @pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float32])
    def test_one_dtype_and_streams_of_their_own(self, janus: Path, dtype: torch.dtype | None) -> None:
        """Training one stream in place must not move the other, even where weights come from the map itself."""
        model = load_model(janus, dtype=dtype)
        assert {p.dtype for p in model.parameters()} == {dtype or torch.bfloat16}
        before = [p.clone() for p in model.blocks[0].gen.parameters()]
        with torch.no_grad():
            for parameter in (*model.blocks[0].und.parameters(), model.norm_und.weight):
                parameter.fill_(7)
        after = model.blocks[0].gen.parameters()
        assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
        assert not (model.norm_gen.weight == 7).all()

    def test_what_a_janus_model_must_have_is_missed(self, janus: Path) -> None:
        path = janus / "pytorch_model.bin"
        tensors = torch.load(path)
        del tensors["language_model.model.layers.1.mlp.up_proj.weight"], tensors["aligner.layers.2.bias"]
        tensors["surprise"] = torch.zeros(1)
        torch.save(tensors, path)
        with pytest.raises(WeightsError) as caught:
            load_model(janus)
        assert "unexpected surprise;" in str(caught.value)
        assert "missing blocks.1.gen.mlp.up.weight, blocks.1.und.mlp.up.weight, connector.out.bias" in str(
            caught.value
        )

    def test_it_has_no_autoencoder_and_converts_to_nothing(self, janus: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="has no autoencoder"):
            load_autoencoder(janus)
        with pytest.raises(ModelError, match="starts a training"):
            convert(janus, tmp_path / "native", "native")
        assert not (tmp_path / "native").exists()


class TestDefects:
    def test_one_error_names_every_tensor(self, foreign_dir: Path) -> None:
        tensors = load_file(foreign_dir / "model.safetensors")
        for layer in range(3):
            del tensors[f"language_model.model.layers.{layer}.self_attn.o_proj.weight"]
        del tensors["time_embedder.mlp.2.bias"]
        tensors["surprise.weight"] = torch.zeros(2)
        tensors["vae2llm.weight"] = torch.zeros(24, 5)
        tensors["connector.layers.2.bias"] = torch.zeros(7)
        save_file(tensors, foreign_dir / "model.safetensors")
        with pytest.raises(WeightsError) as caught:
            load_model(foreign_dir)
        message = str(caught.value)
        assert "unexpected surprise.weight;" in message
        assert "missing blocks.{0,1,2}.und.o_proj.weight, time_embed.out.bias;" in message
        assert "connector.out.bias (found [7], expected [24])" in message
        assert "latent_in.weight (found [24, 5], expected [24, 3])" in message
        assert "\n" not in message

    def test_native_defects(self, native: Path) -> None:
        tensors = load_file(native / "autoencoder.safetensors")
        del tensors["post_quant_conv.bias"]
        save_file(tensors | {"more": torch.zeros(1)}, native / "autoencoder.safetensors")
        with pytest.raises(WeightsError, match=r"unexpected more; missing post_quant_conv\.bias"):
            load_autoencoder(native)

    @pytest.mark.parametrize(
        "name",
        [
            "language_model.model.embed_tokens.weight",
            "language_model.model.layers.0.self_attn.q_norm.weight",
            "language_model.model.layers.0.mlp.gate_proj.weight",
            "vit_model.vision_tower.patch_embed.proj.weight",
            "vit_model.vision_tower.pos_embed",
        ],
    )
    def test_a_missing_tensor_that_gives_a_size(self, foreign_dir: Path, name: str) -> None:
        tensors = load_file(foreign_dir / "model.safetensors")
        del tensors[name]
        save_file(tensors, foreign_dir / "model.safetensors")
        with pytest.raises(WeightsError) as caught:
            load_model(foreign_dir)
        assert name in str(caught.value) or foreign.native_name(name) in str(caught.value)

    def test_sizes_that_contradict_each_other(self, foreign_dir: Path) -> None:
        values = {**released.JANUS_CONFIG, "vision_config": {"params": {"heads": 3}}}
        (foreign_dir / "config.json").write_text(json.dumps(values))
        with pytest.raises(WeightsError, match=r"no model that can be built.*num_heads 3"):
            load_model(foreign_dir)

    def test_an_autoencoder_that_is_none(self, foreign_dir: Path) -> None:
        torch.save({"weight": torch.zeros(2)}, foreign_dir / "vae" / "kl.ckpt")
        with pytest.raises(WeightsError, match=r"kl\.ckpt: encoder\.conv_in\.weight is missing"):
            load_model(foreign_dir)
        shutil.rmtree(foreign_dir / "vae")
        with pytest.raises(ModelError, match="no autoencoder in it"):
            load_model(foreign_dir)

    @pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
    def test_a_file_cut_short(self, native: Path, foreign_dir: Path, keep: float) -> None:
        for path in (native / "model.safetensors", foreign_dir / "vae" / "kl.ckpt"):
            content = path.read_bytes()
            path.write_bytes(content[: int(keep * len(content))])
            with pytest.raises(WeightsError, match=path.name):
                load_model(path.parents[0] if path.parent == native else foreign_dir)

    def test_pickled_code_is_refused_unrun(self, foreign_dir: Path, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "sprung",)

        with (foreign_dir / "vae" / "kl.ckpt").open("wb") as file:
            pickle.dump({"state_dict": Trap()}, file, protocol=2)
        with pytest.raises(WeightsError, match="holds more than plain tensors"):
            load_model(foreign_dir)
        torch.save({"state_dict": {"encoder.conv_in.weight": Trap()}}, foreign_dir / "vae" / "kl.ckpt")
        with pytest.raises(WeightsError, match="holds more than plain tensors"):
            load_model(foreign_dir)
        torch.save(torch.zeros(3), foreign_dir / "vae" / "kl.ckpt")
        with pytest.raises(WeightsError, match="no named tensors"):
            load_model(foreign_dir)
        assert not (tmp_path / "sprung").exists()

    def test_directories_that_are_no_model(self, tmp_path: Path) -> None:
        def expect(message: str) -> None:
            with pytest.raises(ModelError, match=message):
                load_model(tmp_path)

        expect(r"config\.json: missing")
        (tmp_path / "config.json").write_text("{")
        expect(r"config\.json: not JSON")
        (tmp_path / "config.json").write_bytes(b"\xff\xfe")
        expect(r"config\.json: not JSON")
        (tmp_path / "config.json").write_text("[1]")
        expect("expected an object")
        (tmp_path / "config.json").write_text("{}")
        expect(r"no model\.safetensors in it")
        save_file({"some.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
        expect("neither a native, a released UniX nor a Janus-Pro model directory")

    def test_a_native_config_is_strict(self, native: Path) -> None:
        values = json.loads((native / "config.json").read_text())
        values["latent_gird"] = values.pop("latent_grid")
        (native / "config.json").write_text(json.dumps(values))
        with pytest.raises(ConfigError, match=r"config\.json: unknown setting 'latent_gird'.*'latent_grid'"):
            load_model(native)


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: writing fails in the middle, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestWriting:
    @pytest.mark.parametrize("num_bytes", [100, 20_000, 500_000])
    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, num_bytes: int) -> None:
        """Room for nothing, for a part of the weights, for the weights but not the autoencoder."""
        native = tiny.save(tmp_path / "native", tiny.RELEASABLE)
        source = released.write(tmp_path / "released", released.draw(SHAPES))
        model, autoencoder = native / "model.safetensors", source / "vae" / "kl.ckpt"
        assert 100_000 < model.stat().st_size < 500_000 < autoencoder.stat().st_size
        before = tree(tmp_path)
        with full_disk(num_bytes):
            for start, to in ((source, "native"), (native, "released")):
                with pytest.raises(OutputError, match=r"cannot write the model.*free space"):
                    convert(start, tmp_path / "new", to)
        assert tree(tmp_path) == before

    def test_a_full_disk_keeps_the_older_model(self, native: Path) -> None:
        expected = load_model(native).state_dict()
        with full_disk(20_000), pytest.raises(OutputError):
            self.save(native, seed=5)
        assert same(load_model(native).state_dict(), expected)
        assert sorted(p.name for p in native.parent.iterdir()) == ["native", "native-tokenizer.json"]

    def test_an_older_model_is_replaced(self, native: Path) -> None:
        self.save(native, seed=5)
        assert same(load_model(native).state_dict(), tiny.build(seed=5).state_dict())
        assert sorted(p.name for p in native.parent.iterdir()) == ["native", "native-tokenizer.json"]

    def test_who_may_read_the_directory_may_read_its_files(self, native: Path, tmp_path: Path) -> None:
        before = os.umask(0o022)
        try:
            self.save(native.parent / "shared", source=native)
        finally:
            os.umask(before)
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (native.parent / "shared").iterdir()}
        assert set(modes.values()) == {"0o644"}, modes

    def test_a_directory_of_anything_else_is_left_alone(self, native: Path, tmp_path: Path) -> None:
        other = tmp_path / "thesis"
        other.mkdir()
        (other / "chapter.txt").write_text("years of work")
        with pytest.raises(OutputError, match="not empty and no model directory"):
            self.save(other)
        with pytest.raises(OutputError, match="not empty"):
            convert(native, other, "released")
        for target in (other / "chapter.txt", other / "chapter.txt" / "model"):
            with pytest.raises(OutputError):
                self.save(target, source=native)
            with pytest.raises(OutputError):
                convert(native, target, "released")
        assert tree(other) == ["chapter.txt"]

    def test_the_current_directory_is_a_directory_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        native = tiny.save(tmp_path / "native", tiny.RELEASABLE)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        convert(native, ".", "released")
        assert load_config(tmp_path / "here").tokens == tiny.RELEASABLE.tokens

    def test_converting_into_the_same_layout_has_no_effect(self, native: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="in the native layout already"):
            convert(native, tmp_path / "new", "native")

    def test_an_unexpected_tensor_is_not_lost_in_silence(self, foreign_dir: Path, tmp_path: Path) -> None:
        tensors = load_file(foreign_dir / "model.safetensors") | {"surprise": torch.zeros(1)}
        save_file(tensors, foreign_dir / "model.safetensors")
        with pytest.raises(WeightsError, match="unexpected tensors: surprise"):
            convert(foreign_dir, tmp_path / "new", "native")

    @staticmethod
    def save(directory: Path, seed: int = 0, source: Path | None = None) -> None:
        source = source or directory.parent / "native"
        tokenizer = source.parent / "native-tokenizer.json"
        autoencoder = load_autoencoder(source)
        save_model(directory, tiny.CONFIG, tiny.build(seed=seed), autoencoder, tokenizer, "card")
