"""The range test suggests a rate where the loss falls, and says so where it cannot; and what an overfitted batch tells."""

import math
from pathlib import Path

import pytest
import torch

from cliplab.models.tokens import Tokens
from cliplab.objectives.contrastive import ClipLoss
from cliplab.training.callbacks.overfit import TellOverfit, why_not
from cliplab.training.range_test import RangeTest, rates_of, smoothed, suggest
from tests.objectives.test_contrastive import Batch

from .toys import fit

RATES = rates_of(1e-6, 1.0, 61)


def valley(rate: float, lowest: float = 1e-2) -> float:
    """A loss that falls most around a tenth of its best rate, and bursts beyond it."""
    return 3 - 2 / (1 + (0.1 * lowest / rate) ** 2) + (rate / lowest) ** 2 / 10


def test_rates_and_smoothing() -> None:
    assert RATES[0] == 1e-6
    assert RATES[-1] == pytest.approx(1.0)
    assert RATES[30] == pytest.approx(1e-3)
    assert smoothed([2.0] * 5) == pytest.approx([2.0] * 5)


@pytest.mark.parametrize("end", [[], [math.nan], [math.inf, 1.0, math.nan]])
def test_the_steepest_fall_is_suggested(end: list[float]) -> None:
    losses = [valley(rate) for rate in RATES[: len(RATES) - len(end)]] + end
    found = suggest(RATES, losses)
    assert found.rate is not None
    assert found.lowest is not None
    assert 3e-4 < found.rate < 3e-3
    assert found.rate < found.lowest < 3e-2


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        ([1.0] * 61, "does not fall at any rate"),
        ([1 + i / 10 for i in range(61)], "does not fall at any rate"),
        ([1.0] * 7 + [math.nan] * 54, "a number for 7 steps only"),
        ([], "a number for 0 steps only"),
    ],
)
def test_what_cannot_be_suggested_is_said(losses: list[float], why: str) -> None:
    found = suggest(RATES, losses)
    assert found.rate is None
    assert why in found.why


def test_the_test_sets_each_rate_and_stops_beyond() -> None:
    test = RangeTest(1e-4, 1e3, 60)
    trainer, _ = fit([1.0] * 60, [test])
    assert len(test.losses) < 60, "it stopped when the loss had burst"
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(test.rates[len(test.losses) - 1])


@pytest.mark.parametrize(
    ("losses", "more", "told"),
    [
        ([3.0, math.nan], {}, "lower optimizer.lr"),
        ([3.0] * 20, {"trained": 0}, "no parameter trains"),
        ([3.0] * 20, {"hinders": "equal captions"}, "equal captions"),
        ([3 - i / 10 for i in range(20)], {}, "still falling"),
        ([3.0] * 20, {}, "hardly fell"),
        ([3.0] + [1.0, 1.0, 3.0] * 10, {}, "jumps up and down"),
        ([3.0] + [1.0] * 30, {"at_limit": True}, "logit scale is at its limit"),
        ([3.0] + [1.0] * 30, {}, "came to rest above zero"),
    ],
)
def test_why_a_loss_stayed_high(losses: list[float], more: dict, told: str) -> None:
    known = {"rate": 1e-3, "trained": 9, "hinders": "", "at_limit": False}
    assert told in why_not(losses, **(known | more))


def test_a_loss_near_zero_is_said(tmp_path: Path) -> None:
    tell = TellOverfit()
    tell.losses = [3.0, 0.1]
    assert tell.verdict(None, None).endswith("near zero: the model can learn these samples")  # type: ignore[arg-type]
    tell.losses, tell.floor = [3.56, 0.7055], math.log(2)  # two drawings of each
    assert "near 0.6931, the least that equal samples allow: the model" in tell.verdict(None, None)  # type: ignore[arg-type]


def test_a_batch_that_teaches_nothing_is_not_called_learned() -> None:
    tell, same = TellOverfit(), torch.ones(4, 1, dtype=torch.long)
    trainer, toy = fit([], [])
    toy.objective, toy.model.max_log_scale = ClipLoss(), math.log(100)
    batch = Batch(torch.arange(4), torch.rand(4, 3, 2, 2), Tokens(same, same.squeeze(1)))
    tell.on_train_batch_start(trainer, toy, batch, 0)
    assert tell.floor == pytest.approx(math.log(4))
    tell.losses = [1.39, 1.3863]
    told = tell.verdict(trainer, toy)
    assert "not near zero: data.train: all 4 pictures of the first batch have the same caption" in told


def test_a_run_that_goes_on_is_judged_by_all_of_its_steps() -> None:
    before, after = TellOverfit(), TellOverfit()
    before.losses, before.floor = [3.5, 0.8], 0.5
    after.load_state_dict(before.state_dict())
    after.losses.append(0.6)
    assert (before.losses, after.losses, after.floor) == ([3.5, 0.8], [3.5, 0.8, 0.6], 0.5)
