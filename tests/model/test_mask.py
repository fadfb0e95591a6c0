"""Who may attend to whom, against matrices drawn by hand.

Rows are queries, columns keys, `x` sees and `.` does not; und tokens first, then latents. Markers: `b` start and
`e` end of text, `<` and `>` around a picture, `p` patch, `l` latent.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model import tiny
from unixcxr.batch import Example, LatentSegment, ReadSegment
from unixcxr.data.collate import collate
from unixcxr.model.mask import joint_mask, visible

CONFIG = replace(tiny.CONFIG, vision=replace(tiny.VISION, image_size_px=8))
"""One patch an image, so that matrices stay small."""

READ = ReadSegment(torch.zeros(3, 8, 8))
NOISY = LatentSegment(torch.zeros(3, 1, 2), 0.5)
CONTEXT = LatentSegment(torch.zeros(3, 1, 2), 0.0, is_context=True)

DRAWN = {
    "reading: image, question, answer": (
        (READ, tiny.text(1), tiny.text(2)),
        """
        <  x x x . . . . . .
        p  x x x . . . . . .
        >  x x x . . . . . .
        b  x x x x . . . . .
        1  x x x x x . . . .
        e  x x x x x x . . .
        b  x x x x x x x . .
        2  x x x x x x x x .
        e  x x x x x x x x x
        """,
    ),
    "drawing: text, noisy latents": (
        (tiny.text(1), NOISY),
        """
        b  x . . . . . .
        1  x x . . . . .
        e  x x x . . . .
        <  x x x x x x x
        >  x x x x x x x
        l  x x x x x x x
        l  x x x x x x x
        """,
    ),
    "unconditional: noisy latents alone": (
        (NOISY,),
        """
        <  x x x x
        >  x x x x
        l  x x x x
        l  x x x x
        """,
    ),
    "context: clean latents, text, noisy latents": (
        (CONTEXT, tiny.text(1), NOISY),
        """
        <  x x . . . . . x x . .
        >  x x . . . . . x x . .
        b  x x x . . . . x x . .
        1  x x x x . . . x x . .
        e  x x x x x . . x x . .
        <  x x x x x x x x x x x
        >  x x x x x x x x x x x
        l  x x . . . . . x x . .
        l  x x . . . . . x x . .
        l  x x x x x x x x x x x
        l  x x x x x x x x x x x
        """,
    ),
    "noisy latents in the middle: seen by nobody after them": (
        (NOISY, tiny.text(1), NOISY),
        """
        <  x x . . . . . x x . .
        >  x x . . . . . x x . .
        b  . . x . . . . . . . .
        1  . . x x . . . . . . .
        e  . . x x x . . . . . .
        <  . . x x x x x . . x x
        >  . . x x x x x . . x x
        l  x x . . . . . x x . .
        l  x x . . . . . x x . .
        l  . . x x x x x . . x x
        l  . . x x x x x . . x x
        """,
    ),
}


def matrix(drawing: str) -> torch.Tensor:
    rows = [line.split()[1:] for line in drawing.strip().splitlines()]
    return torch.tensor([[cell == "x" for cell in row] for row in rows])


@pytest.mark.parametrize("case", DRAWN.values(), ids=DRAWN.keys())
def test_mask_as_drawn(case: tuple[tuple[object, ...], str]) -> None:
    segments, drawing = case
    layout = collate([Example(segments)], CONFIG).layout  # type: ignore[arg-type]
    assert torch.equal(visible(layout, layout)[0], matrix(drawing))


def test_samples_and_padding_stay_apart() -> None:
    """In a padded batch each row keeps its own matrix, and no real token sees a padding one."""
    cases = list(DRAWN.values())
    layout = collate([Example(segments) for segments, _ in cases], CONFIG).layout  # type: ignore[arg-type]
    mask = visible(layout, layout)
    for row, (_, drawing) in enumerate(cases):
        real = layout.valid[row]
        assert torch.equal(mask[row][real][:, real], matrix(drawing))
        assert not mask[row][real][:, ~real].any()
        assert mask[row].any(dim=1).all(), "a softmax over nothing is not finite"


def test_new_tokens_see_the_cached_ones_of_their_row() -> None:
    layout = collate([Example((tiny.text(1),)), Example((NOISY,))], CONFIG).layout
    cached = torch.tensor([[True, True, False], [False, False, False]])
    mask = joint_mask(layout, cached)
    assert mask.shape == (2, 1, 5, 8)
    real = layout.valid
    assert (mask[0, 0, real[0], :3] == cached[0]).all()
    assert not mask[1, 0, real[1], :3].any()
    assert torch.equal(mask[..., 3:], joint_mask(layout, None))
