"""Learning-rate schedules: pure functions of the optimizer step that return a multiplier of the base rate."""

import math

from cliplab.rules import Natural, Share


def _warmup(step: int, warmup_steps: int, total_steps: int) -> float | None:
    if warmup_steps >= total_steps:
        raise ValueError(
            f"warmup_steps {warmup_steps} leaves nothing of {total_steps} training steps; "
            "lower scheduler.warmup_steps or train longer"
        )
    return (step + 1) / warmup_steps if step < warmup_steps else None


def cosine(step: int, *, total_steps: int, warmup_steps: Natural, min_ratio: Share = 0.0) -> float:
    """Linear warm-up, then cosine from 1 to ``min_ratio``. Raises ValueError if warmup_steps >= total_steps.

    Source: Loshchilov & Hutter 2017, eq. 5.
    """
    rising = _warmup(step, warmup_steps, total_steps)
    if rising is not None:
        return rising
    progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def linear(step: int, *, total_steps: int, warmup_steps: Natural, min_ratio: Share = 0.0) -> float:
    """Linear warm-up, then linear from 1 to ``min_ratio``. Raises ValueError if warmup_steps >= total_steps."""
    rising = _warmup(step, warmup_steps, total_steps)
    if rising is not None:
        return rising
    return 1 - (1 - min_ratio) * min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))


def constant(step: int, *, total_steps: int, warmup_steps: Natural) -> float:
    """Linear warm-up, then 1. Raises ValueError if warmup_steps >= total_steps."""
    rising = _warmup(step, warmup_steps, total_steps)
    return 1.0 if rising is None else rising
