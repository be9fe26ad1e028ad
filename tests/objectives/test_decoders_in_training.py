"""Objectives with a decoder give on two ranks the gradient of one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cliplab.models.tokens import Tokens
from cliplab.objectives.caption import Caption
from cliplab.objectives.coca import CocaCaption
from cliplab.objectives.masked_caption import MaskedCaption
from cliplab.objectives.objective import Objective
from tests.processes import run_ranks

from .decoding import CAPTIONS, Pairs, built, pairs, towers
from .ranks import assert_average, group, save_average

SIZES: dict[str, Any] = {"width": None, "layers": None, "heads": None}


def objectives() -> dict[str, Objective]:
    model = towers()
    return {
        "caption": built(Caption(directions="both", **SIZES, captions=100), model),
        "coca": built(CocaCaption(layers=None, heads=None, captions=100), model),
        "masked": built(MaskedCaption(seed=1, share=0.3, **SIZES, captions=100), model),
    }


def gradients(objective: Objective, batch: Pairs) -> list[torch.Tensor]:
    model = towers()
    objective.zero_grad()
    loss = objective(model(batch.images, batch.tokens, objective.reads), batch).loss
    loss.backward()
    every = [*model.image_encoder.parameters(), *objective.parameters()]
    return [loss.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad for p in every)]


def share_of(batch: Pairs, rows: slice) -> Pairs:
    tokens = Tokens(batch.tokens.ids[rows], batch.tokens.lengths[rows])
    return Pairs(batch.images[rows], tokens, batch.epochs[rows], batch.indices[rows])


def one_rank(number: int, ranks: int, folder: str) -> None:
    share = len(CAPTIONS) // ranks
    with group(number, ranks, folder):
        for name, objective in objectives().items():
            part = slice(number * share, (number + 1) * share)
            save_average(gradients(objective, share_of(pairs(), part)), folder, name)


@pytest.mark.slow
def test_two_ranks_with_captions_of_other_lengths_give_the_gradient_of_one(tmp_path: Path) -> None:
    run_ranks(one_rank, 2, str(tmp_path))
    for name, objective in objectives().items():
        assert_average(tmp_path, name, gradients(objective, pairs()), rtol=1e-4)
