"""Positions for another image size: open_clip's numbers, and what must not change."""

from types import SimpleNamespace

import pytest
import torch
from open_clip.model import resize_pos_embed

from cliplab.models.positions import resize_positions


@pytest.mark.parametrize(("old", "new"), [(7, 12), (12, 7), (4, 5), (16, 8)])
def test_equals_open_clip(old: int, new: int) -> None:
    positions = torch.randn(old**2 + 1, 24)
    state = {"visual.positional_embedding": positions.clone()}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=(new, new))))
    torch.testing.assert_close(
        resize_positions(positions, new**2 + 1), state["visual.positional_embedding"], rtol=0, atol=0
    )


def test_same_size_and_constant_grids_stay() -> None:
    positions = torch.randn(50, 8)
    assert resize_positions(positions, 50) is positions
    flat = torch.cat([torch.full((1, 8), 9.0), torch.full((49, 8), 2.0)]).half()
    resized = resize_positions(flat, 101)
    assert resized.dtype == torch.float16
    torch.testing.assert_close(resized, torch.cat([flat[:1], torch.full((100, 8), 2.0).half()]))
    torch.testing.assert_close(resize_positions(flat[1:], 100, extra_tokens=0), flat[1:2].expand(100, -1))


def test_grid_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="31 position embeddings are not a square grid"):
        resize_positions(torch.randn(50, 8), 31)
