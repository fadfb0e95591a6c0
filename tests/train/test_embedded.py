"""The embedded run at tiny size: what each stage moves, that losses fall, exact resume, export."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unixcxr.errors import ConfigError, ModelError, WeightsError
from unixcxr.model.weights import load_autoencoder, load_model
from unixcxr.train.checkpoint import Checkpoint
from unixcxr.train.corpus import Corpus, Row
from unixcxr.train.embedded import EmbeddedRun
from unixcxr.train.loop import Task, run_stage
from unixcxr.train.stages import GEN, UND, RunConfig, read_run_config

TINY = Path(__file__).resolve().parents[2] / "configs" / "tiny" / "embedded.toml"
STAGES = ("codec", "labels", "understanding", "generation", "finetuning", "seeing", "decoder")
SIDES = ("left", "right")


def corpus() -> Corpus:
    """Eight pictures: waves with a bright patch on the side that the text names."""
    waves = np.sin(np.arange(32) / 3) * np.arange(1, 9)[:, None]  # (8, 32)
    images = (90 + 4 * (waves[:, :, None] + waves[:, None, :])).astype(np.uint8)
    rows = []
    for number in range(8):
        side = SIDES[number % 2]
        images[number, 8:24, slice(2, 12) if side == "right" else slice(20, 30)] = 220
        text = f"A {side} effusion."
        rows.append(
            Row(f"row-{number}", "phantom", (text,), (text,), {f"effusion {s}": s == side for s in SIDES})
        )
    return Corpus(rows, [images])


def tiny(directory: Path, **changes: object) -> EmbeddedRun:
    return EmbeddedRun(replace(read_run_config(TINY), **changes), corpus(), directory)  # type: ignore[arg-type]


def longer(config: RunConfig, stage: str, num_samples: int) -> dict[str, object]:
    return {"stages": {**config.stages, stage: replace(config.stages[stage], num_samples=num_samples)}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedRun:
    """A run with all its stages done."""
    run = tiny(tmp_path_factory.mktemp("run"))
    for name in STAGES:
        run.train(name)
    return run


def weights_of(run: EmbeddedRun, stage: str | None) -> dict[str, Tensor]:
    return {**run.model(before=stage).state_dict(), **run.autoencoder(before=stage).state_dict()}


@pytest.mark.parametrize(
    ("stage", "following", "moved"),
    [
        ("codec", "labels", ("encoder.", "decoder.", "refine.")),
        ("labels", "understanding", ("vision.",)),
        ("understanding", "generation", tuple(pattern.split("*")[0] for pattern in UND)),
        ("generation", "finetuning", tuple(pattern.split("*")[0] for pattern in GEN)),
        ("finetuning", "seeing", tuple(pattern.split("*")[0] for pattern in GEN)),
        ("seeing", "decoder", ("vision.", "connector.")),
        ("decoder", None, ("decoder.", "refine.")),
    ],
)
def test_each_stage_moves_what_it_says_and_nothing_else(
    finished: EmbeddedRun, stage: str, following: str | None, moved: tuple[str, ...]
) -> None:
    buffers = {name for name, _ in finished.autoencoder().named_buffers()}
    before, after = weights_of(finished, stage), weights_of(finished, following)
    for name in before.keys() - buffers:
        other_stream = ".gen." if stage == "understanding" else ".und."
        learns = name.startswith(moved) and not (name.startswith("blocks.") and other_stream in name)
        changed = not torch.equal(before[name], after[name])
        assert changed == learns, name


@pytest.mark.parametrize("stage", STAGES)
def test_the_loss_falls_on_eight_samples(finished: EmbeddedRun, tmp_path: Path, stage: str) -> None:
    config = finished.config
    config = replace(config, **longer(config, stage, 8 * 60))  # type: ignore[arg-type]
    task = task_of(finished, stage)
    objective = config.stages[stage].objective
    part = {"reconstruct": "reconstruction", "label": "label", "read": "text", "draw": "velocity"}[objective]
    if stage == "seeing":  # the tiny text stream knows too little for its loss to say anything
        part = "label"

    @torch.no_grad()
    def loss() -> float:
        losses = task.losses(torch.Generator().manual_seed(0))
        return losses[part].item()

    before = loss()
    run_stage(task, stage, config, tmp_path)
    assert loss() < (0.5 if stage == "understanding" else 0.95) * before


def task_of(run: EmbeddedRun, stage: str) -> Task:
    """Return the task of a stage, at the weights that the stages before it left."""
    return run.task(stage, run.config.stages[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_stopping_and_resuming_is_never_having_stopped(
    finished: EmbeddedRun, tmp_path: Path, stage: str
) -> None:
    straight = run_stage(task_of(finished, stage), stage, finished.config, tmp_path / "straight").state_dict()
    run_stage(task_of(finished, stage), stage, finished.config, tmp_path / "halves", stop_at=3)
    halves = run_stage(task_of(finished, stage), stage, finished.config, tmp_path / "halves").state_dict()
    assert straight.keys() == halves.keys()
    assert [name for name in straight if not torch.equal(straight[name], halves[name])] == []
    logs = [
        (tmp_path / which / stage / "metrics.jsonl").read_text().splitlines()
        for which in ("straight", "halves")
    ]
    losses = [
        [{k: v for k, v in json.loads(row).items() if k != "samples_per_s"} for row in log] for log in logs
    ]
    assert losses[0] == losses[1]


def test_generation_starts_from_the_und_stream(finished: EmbeddedRun) -> None:
    task = finished._draw_task("generation", finished.config.stage("generation"))
    for block in task.model.blocks:
        und, gen = block.und.state_dict(), block.gen.state_dict()
        assert all(torch.equal(und[name], gen[name]) for name in und)


def test_exported_directory_loads_and_equals_the_run(finished: EmbeddedRun, tmp_path: Path) -> None:
    finished.export(tmp_path / "model", "# Card\n")
    loaded, trained = load_model(tmp_path / "model").state_dict(), finished.model().state_dict()
    assert all(torch.allclose(loaded[name], trained[name], atol=2e-3) for name in trained)
    images = torch.rand(1, 1, 32, 32) * 2 - 1
    ours, theirs = finished.autoencoder(), load_autoencoder(tmp_path / "model")
    assert torch.allclose(ours.decode(ours.encode(images)), theirs.decode(theirs.encode(images)), atol=2e-2)


def test_tokenizer_gives_texts_back(finished: EmbeddedRun) -> None:
    tokenizer = finished.tokenizer()
    for text in ("A left effusion.", "Ω unseen\n\twords, 3.5 cm", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert min(tokenizer.encode("A left effusion.")) > 3


def test_a_loss_that_is_not_finite_stops_the_stage(finished: EmbeddedRun, tmp_path: Path) -> None:
    task = finished._reconstruct_task("codec", finished.config.stage("codec"))
    task.losses = lambda _generator: {"reconstruction": torch.tensor(math.nan)}  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="stage codec, step 0: the loss is not finite"):
        run_stage(task, "codec", finished.config, tmp_path)


def test_a_damaged_checkpoint_is_named(finished: EmbeddedRun, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    whole = (finished.directory / "codec" / "checkpoint.pt").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"checkpoint\.pt: not a training checkpoint"):
        Checkpoint.load(path)


def test_patterns_without_a_parameter_and_unknown_stages_are_errors(tmp_path: Path) -> None:
    run = tiny(tmp_path)
    stage = replace(run.config.stage("understanding"), trains=("vision.*", "blocks.*.underneath.*"))
    with pytest.raises(ConfigError, match=r"no parameter matches 'blocks.\*.underneath.\*'"):
        run._read_task("understanding", stage)
    with pytest.raises(ConfigError, match="no stage 'stage1' in this run; it has codec, labels"):
        run.train("stage1")


def test_latents_from_the_table_are_those_encoded_as_drawn(finished: EmbeddedRun) -> None:
    stage, autoencoder = finished.config.stage("finetuning"), finished.autoencoder(before="finetuning")
    from_table = finished._latents(autoencoder, stage)([6, 1])
    (finished.directory / "latents_32.npy").unlink()
    as_drawn = finished._latents(autoencoder, replace(stage, num_samples=1))([6, 1])
    assert from_table.shape == (2, 4, 4, 4)
    assert torch.allclose(from_table, as_drawn, atol=5e-3)


def test_the_documented_card_is_the_model_s_own() -> None:
    root = TINY.parents[2]
    card = (root / "src" / "unixcxr" / "assets" / "embedded" / "README.md").read_text("utf-8")
    assert (root / "docs" / "model_card.md").read_text("utf-8") == card
