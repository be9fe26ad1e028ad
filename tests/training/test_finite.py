"""A loss that is no number stops the run, or the step is left out; weights that are none are never saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from cliplab.training.callbacks import NotFiniteError, SkipNaN, StopOnNaN, WatchWeights, finite, watch

from .toys import checkpoints, fit

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: it is not asked after each step."""
    monkeypatch.setattr(finite, "answers_at_once", lambda device: False)


def saved_step(folder: Path) -> int:
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    return int(checkpoint["global_step"])


@pytest.mark.parametrize("broken", [NAN, INF])
def test_a_step_without_a_loss_stops_the_run_and_the_checkpoint_before_it_stays(broken: float, tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"the loss is not finite at step 3 \(epoch 1\)") as caught:
        fit([1.0, 2.0, broken, 1.0], [watch("stop", 10), checkpoints(tmp_path)])
    assert caught.value.step == 3
    assert saved_step(tmp_path) == 2
    for fix in (
        "optimizer.lr (now 0.1)",
        "scheduler.warmup_steps (now 3)",
        "trainer.gradient_clip_val=1",
        "on_nan=skip",
    ):
        assert fix in str(caught.value)
    assert "checkpoints are from earlier steps" in str(caught.value)
    assert "precision" not in str(caught.value)
    assert "optimizer.eps" not in str(caught.value)


def test_a_loss_that_is_broken_from_the_start_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"step 1 .* no checkpoint was saved before it"):
        fit([NAN, 1.0], [watch("stop", 10), checkpoints(tmp_path)])
    assert not list(tmp_path.glob("*.ckpt"))


def test_the_message_names_the_precision_only_when_there_is_a_better_one(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"trainer.precision=32-true \(now bf16-mixed\)") as caught:
        fit([1.0, NAN], [watch("stop", 10)], precision="bf16-mixed", gradient_clip_val=1.0)
    assert "gradient_clip_val" not in str(caught.value)


@pytest.mark.usefixtures("deferred")
@pytest.mark.parametrize(("every", "noticed"), [(2, 4), (5, 5), (10, 7)])
def test_a_device_is_asked_now_and_then_and_the_first_step_is_still_named(every: int, noticed: int) -> None:
    steps = Steps()
    with pytest.raises(NotFiniteError, match="step 3 "):
        fit([1.0, 2.0, NAN, 1.0, 1.0, 1.0, 1.0], [steps, watch("stop", every)])
    assert steps.seen[-1] == noticed


@pytest.mark.usefixtures("deferred")
def test_a_device_is_asked_before_each_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match="step 3 "):
        fit([1.0, 2.0, NAN, 1.0, 1.0], [watch("stop", 10), checkpoints(tmp_path)])
    assert saved_step(tmp_path) == 2


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_weights_that_broke_after_the_loss_are_not_saved(on_nan: str, tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match="the weights are no longer finite at step 2 "):
        fit([1.0, 2.0, 1.0], [watch(on_nan, 10), BreakWeights(at=2), checkpoints(tmp_path)])
    assert saved_step(tmp_path) == 1


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_watching_changes_no_number(on_nan: str) -> None:
    batches = [1.0, -2.0, 0.3, 7.0]
    trainer, watched = fit(batches, [watch(on_nan, 2)], epochs=3)
    _, free = fit(batches, [], epochs=3)
    assert torch.equal(watched.model.weight, free.model.weight)
    assert torch.equal(watched.model.seen, free.model.seen)
    assert facts(trainer) == {}


@pytest.mark.parametrize("broken", [NAN, INF, 1e30])  # the last has a finite sum and an infinite square
def test_steps_left_out_leave_no_trace_in_weights_moments_and_buffers(
    broken: float, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, skipping = fit([1.0, broken, -2.0, broken, broken, 0.3], [watch("skip", 10)])
    reference, without = fit([1.0, -2.0, 0.3], [])
    assert torch.equal(skipping.model.weight, without.model.weight)
    assert torch.equal(skipping.model.seen, without.model.seen)
    (mine,), (other,) = (t.optimizers[0].state.values() for t in (trainer, reference))
    assert all(torch.equal(mine[key], other[key]) for key in ("exp_avg", "exp_avg_sq", "step"))
    assert trainer.global_step == 6, "the order of samples and the rate go on"
    assert facts(trainer) == {"skipped_steps": 3, "first_skipped_steps": [2, 4, 5]}
    assert float(trainer.callback_metrics["train/skipped_steps"]) == 3
    assert capsys.readouterr().err.count("the step is left out") == 3


def test_a_gradient_that_is_no_number_is_left_out_though_the_loss_is_one() -> None:
    trainer, toy = fit([1.0, 2.0], [watch("skip", 10), BreakGradient(at=2)])
    _, without = fit([1.0], [])
    assert torch.equal(toy.model.weight, without.model.weight)
    assert facts(trainer)["first_skipped_steps"] == [2]


def test_ten_steps_left_out_in_a_row_end_the_run_and_nine_do_not() -> None:
    fit([1.0, *[NAN] * 9, 1.0, *[NAN] * 9], [watch("skip", 10)])
    with pytest.raises(NotFiniteError, match="10 steps in a row, the last at step 11 ") as caught:
        fit([1.0, *[NAN] * 12], [watch("skip", 10)])
    assert "on_nan=skip" not in str(caught.value), "it is what was done"


def test_what_was_left_out_is_still_known_after_a_resume(tmp_path: Path) -> None:
    fit([1.0, NAN, 2.0], [watch("skip", 10), checkpoints(tmp_path)])
    trainer, _ = fit([1.0, 2.0, 2.0], [watch("skip", 10)], epochs=2, ckpt=tmp_path / "last.ckpt")
    assert trainer.global_step == 6
    assert facts(trainer) == {"skipped_steps": 1, "first_skipped_steps": [2]}


def facts(trainer: Any) -> dict[str, Any]:
    return next((c.facts() for c in trainer.callbacks if isinstance(c, WatchWeights)), {})


class Steps(Callback):
    def __init__(self) -> None:
        self.seen = list[int]()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.seen.append(trainer.global_step)


class BreakWeights(Callback):
    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self.at:
            pl_module.model.weight.data.fill_(INF)


class BreakGradient(Callback):
    def __init__(self, at: int) -> None:
        self.at = at

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step + 1 == self.at:
            pl_module.model.weight.grad.fill_(NAN)


def test_each_choice_has_its_class() -> None:
    assert isinstance(watch("stop", 1), StopOnNaN)
    assert isinstance(watch("skip", 1), SkipNaN)
