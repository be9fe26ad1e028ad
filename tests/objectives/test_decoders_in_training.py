"""Objectives with a decoder in training: resumed to the bit, used from a checkpoint, and the same among ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from cliplab.assembly.objective import trained_objective
from cliplab.checkpoints.read import read_pretrained
from cliplab.checkpoints.weights import load_exactly
from cliplab.models.tokens import Tokens
from cliplab.objectives.caption import Caption
from cliplab.objectives.masked_caption import MaskedCaption
from cliplab.objectives.objective import Objective
from cliplab.settings.build import build
from tests.processes import run_ranks
from tests.training.test_module import CLIP_LOSS, fit, module_of, same

from .decoding import CAPTIONS, Pairs, built, pairs, towers

PLACE = "cliplab.objectives"
SIZES: dict[str, Any] = {"width": None, "layers": None, "heads": None, "captions": 0}
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
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=ranks)
    share = len(CAPTIONS) // ranks
    for name, objective in objectives().items():
        averaged = gradients(objective, share_of(pairs(), slice(number * share, (number + 1) * share)))
        for gradient in averaged:
            dist.all_reduce(gradient)
            gradient /= ranks
        if number == 0:
            torch.save(averaged, f"{folder}/{name}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_with_captions_of_other_lengths_give_the_gradient_of_one(tmp_path: Path) -> None:
    run_ranks(one_rank, 2, str(tmp_path))
    for name, objective in objectives().items():
        averaged = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        for a, b in zip(averaged, gradients(objective, pairs()), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
