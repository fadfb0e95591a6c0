"""Where the text looked, against the attention of the slow reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from model import reference, tiny
from unixcxr.batch import Example, ReadSegment, TextSegment
from unixcxr.data.collate import collate
from unixcxr.data.transforms import place_image
from unixcxr.errors import PromptError
from unixcxr.sampling.engine import Engine
from unixcxr.sampling.explain import image_attention

ANSWER = (8, 9, 10, 11)


@pytest.mark.parametrize("num_layers", [1, 2, 3, 6])
@pytest.mark.parametrize("tokens", [range(1), range(1, 4), range(4)])
def test_attention_of_the_last_third_of_the_layers(num_layers: int, tokens: range) -> None:
    """Mean over heads, layers and the places that predict the tokens, at each patch."""
    config = tiny.with_transformer(num_layers=num_layers)
    model = tiny.build(config)
    sample = tiny.example(ReadSegment(tiny.picture(1)), tiny.text(5, 6), TextSegment(ANSWER))
    answer = reference.run(reference.released_weights(model), config, sample)
    start = (
        6 + 4
    )  # two markers and four patches, then start, 5, 6, end; the answer's start token predicts its first
    layers = answer.attention[-max(1, num_layers // 3) :]
    maps = [layer[:, start + token, 1:5].mean(0) for layer in layers for token in tokens]
    expected = torch.stack(maps).mean(0).reshape(2, 2)
    found = image_attention(
        model, collate([sample], config), range(start + tokens.start, start + tokens.stop)
    )
    assert torch.allclose(found.double(), expected, atol=1e-6)
    assert not model.blocks[-1].attention._forward_hooks


def test_explanation_of_a_sentence(engine: Engine, films: Sequence[np.ndarray]) -> None:
    """The map of its tokens, stretched over the picture as it was read."""
    image = films[0]  # 20 x 16, so padded at both sides before it is read
    report = next(
        r
        for seed in range(50)
        if len((r := engine.write_report(image, seeds=[seed], temperature=1.0)).text.split()) > 1
    )
    words = report.text.split()[-1]
    start = report.text.index(words)
    tokens = report.token_range(start, start + len(words))
    segments = engine.reading(image, report.prompt).segments
    sample = Example((*segments, TextSegment(report.token_ids)))
    first = 6 + len(segments[1].token_ids) + 2
    heat = image_attention(
        engine.model, collate([sample], engine.config), range(first + tokens.start, first + tokens.stop)
    )
    explained = engine.explain(report, words)
    assert explained.shape == image.shape
    assert (explained > 0).all()
    assert explained.max() <= heat.max() + 1e-6
    expected = place_image(20, 16, "pad", 16, 8).map_back(heat.numpy())
    assert np.array_equal(explained, expected)
    # the corners of the picture look nearest to the corners of the map, rows and columns not swapped
    assert explained[0].mean() == pytest.approx(float(heat[0].mean()), rel=0.2)


def test_no_such_sentence(engine: Engine, films: Sequence[np.ndarray]) -> None:
    report = engine.write_report(films[0])
    for sentence in ("not in there", ""):
        with pytest.raises(PromptError, match="has no sentence"):
            engine.explain(report, sentence)
