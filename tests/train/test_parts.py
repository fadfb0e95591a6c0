"""Losses, averages, learning rate, corpus and attention against hand-worked cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unixcxr.batch import IGNORE, Batch, Layout, UndTokens
from unixcxr.errors import ConfigError, RecordError
from unixcxr.model.attention import JointAttention
from unixcxr.train.attention import WrittenOutAttention
from unixcxr.train.corpus import Corpus, Row, as_grey, augment, draw_indices, write_corpus
from unixcxr.train.ema import Ema
from unixcxr.train.losses import label_loss, reconstruction_loss, text_loss, velocity_loss
from unixcxr.train.optim import learning_rate_at
from unixcxr.train.stages import OptimiserConfig, read_run_config


def test_text_loss_is_the_weighted_mean() -> None:
    layout = Layout(*(torch.zeros(1, 3, dtype=kind) for kind in (torch.int64, torch.int64, torch.bool)))
    batch = Batch(
        UndTokens(torch.zeros(1, 3, dtype=torch.int64), layout),
        label_ids=torch.tensor([[1, IGNORE, 0]]),
        label_weights=torch.tensor([[3.0, 0.0, 1.0]]),
    )
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]])
    # -ln 1/2 with weight 3, -ln 1/4 with weight 1
    assert text_loss(logits, batch).item() == pytest.approx((3 * math.log(2) + math.log(4)) / 4)


def test_velocity_and_label_and_reconstruction_losses() -> None:
    velocity = torch.tensor([[[2.0, 1.0], [2.0, 3.0]]])
    weights = torch.tensor([1.5, 0.5])
    assert velocity_loss(velocity, torch.zeros(1, 2, 2), weights).item() == pytest.approx(
        (6 + 0.5 + 6 + 4.5) / 4
    )
    logits = torch.tensor([[0.0, 50.0], [math.log(3.0), 9.0]])
    targets = torch.tensor([[1.0, 1.0], [0.0, math.nan]])
    expected = (math.log(2) + 0.0 + math.log(4)) / 3
    assert label_loss(logits, targets).item() == pytest.approx(expected)
    truth = torch.zeros(1, 1, 2, 2)
    image = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert reconstruction_loss(image, truth).item() == pytest.approx(0.25 + 0.5 * (0.5 + 0.5))


def test_average_follows_its_ramp() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    ema = Ema({"p": parameter}, decay=0.2)
    parameter.data.fill_(1.0)
    ema.update({"p": parameter})  # decay 2 / 11
    assert ema.average["p"].item() == pytest.approx(1 - 2 / 11)
    ema.update({"p": parameter})  # decay 0.2, since 3 / 12 is more
    assert ema.average["p"].item() == pytest.approx(1 - 0.2 * 2 / 11)
    ema.copy_to({"p": parameter})
    assert parameter.item() == pytest.approx(1 - 0.2 * 2 / 11)


def test_learning_rate_warms_up_and_falls() -> None:
    cosine = OptimiserConfig(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate_at(step, 100, cosine) for step in range(100)]
    assert rates[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates == [*sorted(rates[:10]), *sorted(rates[10:], reverse=True)]
    constant = OptimiserConfig(learning_rate=1.0, warmup=0.0, schedule="constant")
    assert {learning_rate_at(step, 100, constant) for step in range(100)} == {1.0}


def test_written_out_attention_is_the_model_s() -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 5, 8, generator=generator)
    k, v = torch.randn(2, 2, 2, 7, 8, generator=generator)
    mask = torch.rand(2, 1, 5, 7, generator=generator) > 0.4
    mask[..., 0] = True
    expected = JointAttention()(q, k, v, mask)
    assert torch.allclose(WrittenOutAttention()(q, k, v, mask), expected, atol=1e-6)


def rows() -> list[Row]:
    common = {"effusion": True, "nodule": False}
    rare = {"effusion": False, "nodule": True}
    return [
        *(Row(f"a{i}", "phantom", ("r",), ("p",), common) for i in range(4)),
        Row("b", "phantom", ("r",), ("p",), rare),
        Row("c", "adult", ("r",), (), {"effusion": False}),
        Row("d", "adult", (), ("p",)),
    ]


def test_weights_follow_shares_rarity_and_use() -> None:
    corpus = Corpus(rows(), [np.zeros((7, 8, 8), np.uint8)])
    readable = [bool(row.reports) for row in corpus.rows]
    weights = corpus.weights({"phantom": 0.75, "adult": 0.25}, readable)
    # the rare label counts sqrt(4 / 1) = 2, so the phantoms' 0.75 are shared as 1 1 1 1 2
    assert weights.tolist() == pytest.approx([0.125] * 4 + [0.25, 0.25, 0.0])
    with pytest.raises(ConfigError, match="hannover"):
        corpus.weights({"hannover": 1.0}, readable)


def test_targets_say_what_is_unknown() -> None:
    corpus = Corpus(rows(), [np.zeros((7, 8, 8), np.uint8)])
    assert corpus.target_names == ["effusion", "nodule"]
    table = corpus.targets()
    assert table[4].tolist() == [0.0, 1.0]
    assert table[5, 0] == 0
    assert torch.isnan(table[5, 1])
    assert torch.isnan(table[6]).all()


def test_corpus_parts_come_back_from_disk(tmp_path: Path) -> None:
    images = np.arange(7 * 16, dtype=np.uint8).reshape(7, 4, 4)
    write_corpus(tmp_path / "one", rows()[:3], images[:3])
    write_corpus(tmp_path / "two", rows()[3:], images[3:])
    corpus = Corpus.read([tmp_path / "one", tmp_path / "two"])
    assert corpus.rows == rows()
    assert np.array_equal(corpus.images([6, 0, 3])[:, 0].numpy(), images[[6, 0, 3]])
    (tmp_path / "two" / "rows.jsonl").write_text("")
    with pytest.raises(RecordError, match="0 rows but 4 pictures"):
        Corpus.read([tmp_path / "two"])


def test_drawing_follows_the_weights() -> None:
    drawn = draw_indices(torch.tensor([0.0, 1.0, 3.0]), 4000, torch.Generator().manual_seed(0))
    assert 0 not in drawn
    assert drawn.count(2) / 4000 == pytest.approx(0.75, abs=0.03)


def test_grey_levels_and_augmentation_stay_in_range_and_never_mirror() -> None:
    images = torch.zeros(64, 1, 50, 50, dtype=torch.uint8)
    images[..., :25] = 200
    grey = as_grey(images, 25)
    assert grey[0, 0, 0, :13].tolist() == pytest.approx([200 / 255] * 12 + [100 / 255])
    varied = augment(as_grey(images, 50), torch.Generator().manual_seed(0))
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert (varied[..., :20].mean(dim=(1, 2, 3)) > varied[..., 30:].mean(dim=(1, 2, 3))).all()
    assert varied.std(dim=0).mean() > 0.02


def test_unknown_and_missing_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_run_config(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_text("seed = ")
    with pytest.raises(ConfigError, match="not TOML"):
        read_run_config(path)
    path.write_text("sede = 1\n[model]\n[stages]\n")
    with pytest.raises(ConfigError, match=r"sede.*did you mean 'seed'"):
        read_run_config(path)
