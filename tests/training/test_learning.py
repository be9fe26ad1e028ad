"""A run whose contrastive loss is that of guessing says so at its end."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cliplab.models.clip import Encoded
from cliplab.objectives.contrastive import ClipLoss, SigmoidLoss
from cliplab.objectives.objective import Objective
from cliplab.training.callbacks.learning import LEAST_STEPS, WatchLearning, loss_of_guessing

SIZE = 8


def after(objective: Objective, losses: list[float], steps: int = LEAST_STEPS) -> WatchLearning:
    trainer: Any = SimpleNamespace(global_step=steps, is_global_zero=True, datamodule=SimpleNamespace(batch_size=SIZE))
    config = {"optimizer": {"lr": 1e-3}, "scheduler": {"warmup_steps": 5}}
    module = SimpleNamespace(objective=objective, config=config)
    watch = WatchLearning()
    for loss in losses:
        watch.on_train_batch_end(trainer, module, {"loss": torch.tensor(loss)}, None, 0)
    watch.on_train_end(trainer, module)
    return watch


@pytest.mark.parametrize("objective", [ClipLoss(), SigmoidLoss()])
def test_the_loss_of_equal_embeddings_is_that_of_guessing(objective: Objective) -> None:
    sigmoid = isinstance(objective, SigmoidLoss)
    embeds = F.normalize(torch.ones(SIZE, 4), dim=1)
    bias = torch.tensor(-1.0 - math.log(SIZE - 1))  # together with a scale of 1: the answer 1/N for each pair
    encoded = Encoded(image_embeds=embeds, text_embeds=embeds, logit_scale=torch.tensor(1.0), logit_bias=bias)
    loss = objective(encoded, SimpleNamespace(groups=torch.arange(SIZE))).loss  # type: ignore[arg-type]
    assert float(loss) == pytest.approx(loss_of_guessing(SIZE, sigmoid=sigmoid), rel=1e-5)


def test_a_run_that_has_not_learned_is_told_with_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    told = after(ClipLoss(), [math.log(SIZE)] * 12).facts()["not_learned"]
    assert told.startswith(
        "the model has not learned: after 20 steps its loss is 2.079, and guessing among 8 pairs gives"
    )
    assert "optimizer.lr (now 0.001)" in told
    assert capsys.readouterr().err == told + "\n"
    assert after(SigmoidLoss(), [loss_of_guessing(SIZE, sigmoid=True) + 3] * 12).facts()


@pytest.mark.parametrize(
    ("objective", "losses", "steps"),
    [
        (ClipLoss(), [math.log(SIZE)] * 20 + [0.9 * math.log(SIZE)] * 10, 30),
        (ClipLoss(), [math.log(SIZE)] * 3, 3),
        (Objective(), [math.log(SIZE)] * 20, 20),
    ],
)
def test_learning_short_and_other_runs_are_left_alone(objective: Objective, losses: list[float], steps: int) -> None:
    assert after(objective, losses, steps).facts() == {}


def test_a_resumed_run_is_judged_by_the_steps_before_too() -> None:
    before, resumed = after(ClipLoss(), [math.log(SIZE)] * 12, 12), WatchLearning()
    resumed.load_state_dict(before.state_dict())
    assert [float(loss) for loss in resumed.losses] == pytest.approx([math.log(SIZE)] * 10)
