"""benchmark=checkpointing: peak memory and time of a training step by trainer.activation_checkpointing."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from cliplab.benchmarks.comparing import WARM_UP
from cliplab.benchmarks.contenders import ours
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.measuring import Ratio, Work, held_bytes, in_turn, peak_bytes
from cliplab.benchmarks.train_step import step
from cliplab.benchmarks.workload import Workload
from cliplab.data.fields import takes_fields
from cliplab.models.checkpointing import checkpoint_towers
from cliplab.models.clip import CLIP
from cliplab.settings.build import build
from cliplab.settings.check_trainer import every_nth

MIB = 2**20


@dataclass(frozen=True)
class Choices(Workload):
    """``choices`` are values of ``trainer.activation_checkpointing``; the first is what the others are compared with."""

    choices: Sequence[Any] = ("none", 2, "all")


@takes_fields(Choices)
def measure(work: Choices) -> Measured:
    """Count the memory of a step by each choice, one model at a time, then time the choices in alternation."""
    setting, batch, about = work.prepared()
    batch = batch.pinned() if setting.device.type == "cuda" else batch
    model: CLIP = build(work.config["model"], "model").to(setting.device)
    peaks: dict[str, int] = {}
    held: dict[str, int] = {}
    works: dict[str, Work] = {}
    for choice in work.choices:
        name, one = str(choice), copy.deepcopy(model)
        checkpoint_towers(one, every_nth(choice))
        contender = ours(work.config, batch, setting, one)
        works[name] = lambda contender=contender: step(contender, setting)  # type: ignore[misc]
        for _ in range(WARM_UP):
            works[name]()
        others = sum(held.values())
        held[name] = held_bytes(contender.held())
        peaks[name] = peak_bytes(works[name], setting, contender.held(), others)
    seconds = in_turn(works, work.rounds, work.steps, setting)
    first = next(iter(works))
    rows = [
        {
            "activation_checkpointing": name,
            "peak memory, MiB": peaks[name] / MIB,
            "of that weights and optimizer": held[name] / MIB,
            "times the memory": peaks[name] / peaks[first],
            "ms": 1000 * median(seconds[name]),
            "times as long": str(Ratio.of(seconds[name], seconds[first])),
        }
        for name in works
    ]
    return Measured(rows, f"{about}, {setting}", {"device": str(setting), "seconds": seconds, "peak_bytes": peaks})
