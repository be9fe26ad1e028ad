"""Objectives with a decoder or another head in training: resumed to the bit, used from a checkpoint, the same on ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cliplab.assembly.objective import trained_objective
from cliplab.checkpoints.read import read_pretrained
from cliplab.checkpoints.weights import load_exactly
from cliplab.models.tokens import Tokens
from cliplab.objectives.caption import Caption
from cliplab.objectives.coca import CocaCaption
from cliplab.objectives.masked_caption import MaskedCaption
from cliplab.objectives.objective import Objective
from cliplab.settings.build import build
from tests.processes import run_ranks
from tests.training.test_module import CLIP_LOSS, fit, module_of, same

from .decoding import CAPTIONS, Pairs, built, pairs, towers
from .ranks import assert_average, group, save_average

PLACE = "cliplab.objectives"
SIZES: dict[str, Any] = {"width": None, "layers": None, "heads": None, "captions": 0}
HEAD = {"width": 8, "layers": 1, "heads": 2, "seed": 3}
CHOICES: dict[str, dict[str, Any]] = {
    "forward": {"_target_": f"{PLACE}.caption.Caption", "directions": "forward", "dropout": 0.2, **SIZES},
    "both": {"_target_": f"{PLACE}.caption.Caption", "directions": "both", **SIZES},
    "masked": {"_target_": f"{PLACE}.masked_caption.MaskedCaption", "seed": 1, "share": 0.3, **SIZES},
    "coca": {
        "_target_": f"{PLACE}.weighted_sum.WeightedSum",
        "parts": {
            "clip": CLIP_LOSS,
            "caption": {"_target_": f"{PLACE}.coca.CocaCaption", "layers": None, "heads": None, "captions": 0},
        },
        "weights": {"caption": 2.0},
    },
    "matching": {"_target_": f"{PLACE}.matching.Matching", **HEAD},
    "masked_image": {"_target_": f"{PLACE}.masked_image.MaskedImage", "hidden": 0.5, **HEAD},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_resuming_gives_the_same_bits_and_a_checkpoint_serves(choice: str, tmp_path: Path) -> None:
    whole, first, resumed = (module_of(CHOICES[choice]) for _ in range(3))
    fit(whole)
    path = tmp_path / "last.ckpt"
    fit(first, steps=2).save_checkpoint(path)
    fit(resumed, ckpt=path)
    assert same(whole, resumed)
    assert not same(whole.objective, first.objective)
    weights = read_pretrained(str(path))
    model = build(weights.model, "model")
    load_exactly(model, weights.state, weights.source)
    objective = trained_objective(weights, model)
    assert objective is not None
    assert same(objective, first.objective)


def objectives() -> dict[str, Objective]:
    model = towers()
    return {
        "caption": built(Caption(directions="both", **SIZES | {"captions": 100}), model),
        "coca": built(CocaCaption(layers=None, heads=None, captions=100), model),
        "masked": built(MaskedCaption(seed=1, share=0.3, **SIZES | {"captions": 100}), model),
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
