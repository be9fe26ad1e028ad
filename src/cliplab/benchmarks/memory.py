"""Peak memory and time of a training step by the values of one setting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.comparing import WARM_UP
from cliplab.benchmarks.contenders import Contender
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.measuring import Ratio, Work, held_bytes, in_turn, peak_bytes
from cliplab.benchmarks.setting import Setting
from cliplab.benchmarks.train_step import step
from cliplab.benchmarks.workload import Prepared, Workload

MIB = 2**20
Build = Callable[[Any, MadeBatch, Setting], Contender]  # of a choice


@dataclass(frozen=True)
class ByMemory(Workload):
    """``traced`` counts the memory of a step of tensors without values, as a CPU would hold it, and times nothing: it tells
    what a batch needs that is not at hand or too slow here."""

    traced: bool = False


def by_choice(work: ByMemory, name: str, choices: Sequence[Any], contender_of: Build, prepared: Prepared) -> Measured:
    """Count the memory of a step by each of the ``choices`` of the setting ``name``, one model at a time, then time them in
    alternation. The first is what the others are compared with."""
    return (_traced if work.traced else _measured)(work, name, choices, contender_of, prepared)


def _measured(work: ByMemory, name: str, choices: Sequence[Any], contender_of: Build, prepared: Prepared) -> Measured:
    setting, batch, about = prepared
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
    times = {
        choice: {
            "ms": 1000 * median(seconds[choice]),
            "times as long": str(Ratio.of(seconds[choice], seconds[first])),
        }
        for choice in works
    }
    rows = [row | times[row[name]] for row in _rows(name, peaks, held)]
    return Measured(rows, f"{about}, {setting}", {"device": str(setting), "seconds": seconds, "peak_bytes": peaks})


def _traced(work: ByMemory, name: str, choices: Sequence[Any], contender_of: Build, prepared: Prepared) -> Measured:
    setting = prepared.setting._replace(device=torch.device("cpu"))
    peaks: dict[str, int] = {}
    held: dict[str, int] = {}
    for value in choices:
        with FakeTensorMode(allow_non_fake_inputs=True):
            contender = _copying(contender_of(value, prepared.batch, setting))
            step(contender, setting)  # makes the optimizer's state
            held[str(value)] = held_bytes(contender.held())
            peaks[str(value)] = peak_bytes(lambda: step(contender, setting), setting, contender.held(), 0)  # noqa: B023
    told = f"{prepared.about}, {setting.kind}, traced without values: operations of a CPU, nothing inside them is seen"
    return Measured(_rows(name, peaks, held), told, {"traced": True, "peak_bytes": peaks})


def _copying(contender: Contender) -> Contender:
    """The contender, whose batch is copied for the step as to a GPU."""
    return contender._replace(load=lambda: tree_map_only(torch.Tensor, torch.clone, contender.load()))


def _rows(name: str, peaks: dict[str, int], held: dict[str, int]) -> list[dict[str, Any]]:
    first = next(iter(peaks.values()))
    return [
        {
            name: choice,
            "peak memory, MiB": peak / MIB,
            "of that weights and optimizer": held[choice] / MIB,
            "times the memory": peak / first,
        }
        for choice, peak in peaks.items()
    ]
