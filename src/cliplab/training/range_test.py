"""The learning-rate range test: the loss while the rate rises from tiny to far too large (Smith 2017, section 3.3)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

SMOOTH, DIVERGED, SKIPPED, FEWEST = 0.9, 4.0, 5, 8  # the steps at both ends tell little


class Suggestion(NamedTuple):
    """``rate`` is where the smoothed loss falls fastest, ``lowest`` where it is lowest; None where the test cannot tell, and
    ``why`` says so."""

    rate: float | None
    lowest: float | None
    why: str = ""


def smoothed(losses: Sequence[float]) -> list[float]:
    """An exponential mean that begins without bias."""
    mean, values = 0.0, []
    for i, loss in enumerate(losses, 1):
        mean = SMOOTH * mean + (1 - SMOOTH) * loss
        values.append(mean / (1 - SMOOTH**i))
    return values


def rates_of(low: float, high: float, steps: int) -> list[float]:
    """Equally far apart on a logarithmic scale, both ends included."""
    return [low * (high / low) ** (i / max(1, steps - 1)) for i in range(steps)]


def suggest(rates: Sequence[float], losses: Sequence[float]) -> Suggestion:
    """From the losses at each rate. Values that are no numbers end the test and do not count."""
    finite = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    curve = smoothed(losses[:finite])
    if len(curve) < FEWEST + SKIPPED:
        return Suggestion(None, None, f"the loss was a number for {len(curve)} steps only; begin at a smaller task.low")
    inner = range(SKIPPED, len(curve) - 1)
    lowest = min(inner, key=lambda i: curve[i])
    falls = [(curve[i + 1] - curve[i - 1]) / math.log(rates[i + 1] / rates[i - 1]) for i in inner]
    steepest = min(range(len(falls)), key=lambda i: falls[i])
    if falls[steepest] >= 0 or curve[lowest] > 0.99 * curve[SKIPPED]:
        return Suggestion(None, None, "the loss does not fall at any rate; try a wider range, or look at the data")
    return Suggestion(rates[inner[steepest]], rates[lowest])


class RangeTest(Callback):
    """Sets the rate of each step, keeps the loss, and stops when it is no number or far above its best."""

    def __init__(self, low: float, high: float, steps: int) -> None:
        self.rates, self.losses = rates_of(low, high, steps), list[float]()
        self.best = math.inf

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        rate = self.rates[min(trainer.global_step, len(self.rates) - 1)]
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        loss = float(torch.as_tensor(trainer.callback_metrics["train/loss"]))
        self.losses.append(loss)
        curve = smoothed([value for value in self.losses if math.isfinite(value)])
        self.best = min(self.best, *curve[SKIPPED:], math.inf)
        beyond = len(self.losses) > SKIPPED and loss > DIVERGED * self.best
        trainer.should_stop = trainer.should_stop or beyond or not math.isfinite(loss)
