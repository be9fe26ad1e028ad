"""Peak memory and time of a training step by the values of one setting."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.comparing import WARM_UP
from cliplab.benchmarks.contenders import Contender
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.measuring import Ratio, Work, held_bytes, in_turn, peak_bytes
from cliplab.benchmarks.setting import Setting
from cliplab.benchmarks.train_step import step
from cliplab.benchmarks.workload import Workload

MIB = 2**20


def by_choice(
    work: Workload, name: str, choices: Sequence[Any], contender_of: Callable[[Any, MadeBatch, Setting], Contender]
) -> Measured:
    """Count the memory of a step by each of the ``choices`` of the setting ``name``, one model at a time, then time them in
    alternation. The first is what the others are compared with."""
    setting, batch, about = work.prepared()
    batch = batch.pinned() if setting.device.type == "cuda" else batch
    peaks: dict[str, int] = {}
    held: dict[str, int] = {}
    works: dict[str, Work] = {}
    for value in choices:
        choice, contender = str(value), contender_of(value, batch, setting)
        works[choice] = lambda contender=contender: step(contender, setting)  # type: ignore[misc]
        for _ in range(WARM_UP):
            works[choice]()
        others = sum(held.values())
        held[choice] = held_bytes(contender.held())
        peaks[choice] = peak_bytes(works[choice], setting, contender.held(), others)
    seconds = in_turn(works, work.rounds, work.steps, setting)
    first = next(iter(works))
    rows = [
        {
            name: choice,
            "peak memory, MiB": peaks[choice] / MIB,
            "of that weights and optimizer": held[choice] / MIB,
            "times the memory": peaks[choice] / peaks[first],
            "ms": 1000 * median(seconds[choice]),
            "times as long": str(Ratio.of(seconds[choice], seconds[first])),
        }
        for choice in works
    ]
    return Measured(rows, f"{about}, {setting}", {"device": str(setting), "seconds": seconds, "peak_bytes": peaks})
