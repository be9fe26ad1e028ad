"""How long a run trains: it ends by ``trainer.max_epochs`` or by ``trainer.max_steps``, whichever is first."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

EPOCHS, STEPS = "trainer.max_epochs", "trainer.max_steps"


class Limit(NamedTuple):
    """A key, its value, and the steps that it allows; infinite without a limit."""

    key: str
    value: Any
    steps: float

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


class Length(NamedTuple):
    """``first`` ends the run, ``other`` would end it later."""

    first: Limit
    other: Limit

    @property
    def steps(self) -> int:
        return int(self.first.steps)

    @property
    def why(self) -> str:
        """What ends the run; with what the other limit would allow, where there is another one."""
        if math.isinf(self.other.steps):
            return f"by {self.first}"
        return f"by {self.first}, the first of two limits: {self.other} would allow {int(self.other.steps):,}"


def length_of(trainer: Mapping[str, Any], steps_per_epoch: float) -> Length:
    """One of the two limits must be set. An epoch of a stream without a length has infinitely many steps."""
    epochs, most = trainer["max_epochs"], trainer["max_steps"]
    by_epochs = Limit(EPOCHS, epochs, math.inf if epochs in (None, -1) else epochs * steps_per_epoch)
    by_steps = Limit(STEPS, most, math.inf if most in (None, -1) else most)
    return Length(by_epochs, by_steps) if by_epochs.steps <= by_steps.steps else Length(by_steps, by_epochs)


def note_on_limits(length: Length, typed: Collection[str]) -> str:
    """A sentence where a limit that was typed is not the one that ends the run; "" otherwise."""
    if length.other.key not in typed or math.isinf(length.other.steps) or length.other.steps == length.first.steps:
        return ""
    return f"{length.other.key}: the run ends after {length.steps:,} steps, {length.why}"


def too_short(length: Length, done: int) -> str:
    """Say that a run would end before the step that it has reached."""
    return (
        f"the run would end at step {length.steps:,}, {length.why}, but its checkpoint is at step {done:,}; let it end "
        "later, or use the checkpoint as it is"
    )


def samples_of(config: Mapping[str, Any]) -> int | None:
    """The pairs that a run sees, as far as its config alone tells."""
    trainer, data = config["trainer"], config["data"]
    batch_size = data["batch_size"]
    per_epoch = (data.get("samples_per_epoch") or math.inf) / batch_size
    steps = length_of(trainer, per_epoch).first.steps
    return None if math.isinf(steps) else int(steps) * batch_size
