"""The moving average of the weights: its arithmetic by hand, resumed to the bit, beside weights that it leaves alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from cliplab.training.averaging import AverageWeights, decay_at, weights_to_evaluate

from .toys import checkpoints, fit

BATCHES = [0.5, 1.5, 2.0, 1.0, 0.25, 3.0]


class Record(Callback):
    def __init__(self) -> None:
        self.weights: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.weights.append(float(pl_module.model.weight))


@pytest.mark.parametrize(("every", "start", "power"), [(1, 0, None), (2, 3, None), (1, 0, 0.75)])
def test_the_average_after_some_steps_is_the_one_made_by_hand(every: int, start: int, power: float | None) -> None:
    average, record = AverageWeights(0.9, every, start, power), Record()
    trainer, toy = fit(BATCHES, [record, average])
    due = [w for step, w in enumerate(record.weights, 1) if step >= start and step % every == 0]
    expected = due[0]
    for number, weight in enumerate(due[1:], 1):
        decay = 0.9 if power is None else min(0.9, 1 - (1 + number) ** -power)
        expected = decay * expected + (1 - decay) * weight
    assert average.updates == len(due)
    assert float(average.module.model.weight) == pytest.approx(expected, rel=1e-6)
    assert float(toy.model.weight) == record.weights[-1], "the weights that train stay in their place"
    assert list(weights_to_evaluate(trainer, toy)) == ["", "_ema"]


def test_the_warm_up_of_the_decay_ends_at_the_decay() -> None:
    assert [decay_at(n, 0.9, 1.0) for n in (0, 1, 3, 10_000)] == [0, 0.5, 0.75, 0.9]
    assert decay_at(0, 0.9, None) == 0.9


def test_an_average_that_has_not_begun_is_neither_evaluated_nor_saved(tmp_path: Path) -> None:
    trainer, toy = fit(BATCHES, [AverageWeights(update_starting_at_step=100), checkpoints(tmp_path)])
    assert list(weights_to_evaluate(trainer, toy)) == [""]
    assert "ema_state_dict" not in torch.load(tmp_path / "last.ckpt", weights_only=True)


def test_a_resumed_average_is_that_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole = AverageWeights(0.9, 1, 0, 0.75)
    _, straight = fit(BATCHES, [whole])
    fit(BATCHES[:3], [AverageWeights(0.9, 1, 0, 0.75), checkpoints(tmp_path)])
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["ema_state_dict"]["model.weight"] != saved["state_dict"]["model.weight"]
    resumed = AverageWeights(0.9, 1, 0, 0.75)
    _, toy = fit(BATCHES, [resumed], ckpt=tmp_path / "last.ckpt")
    assert torch.equal(toy.model.weight, straight.model.weight)
    assert torch.equal(resumed.module.model.weight, whole.module.model.weight)
    assert resumed.updates == whole.updates == 6
