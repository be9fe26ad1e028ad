"""benchmark=checkpointing: peak memory and time of a training step by trainer.activation_checkpointing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.contenders import Contender, ours
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.memory import ByMemory, by_choice
from cliplab.benchmarks.setting import Setting
from cliplab.data.fields import takes_fields
from cliplab.models.checkpointing import checkpoint_towers
from cliplab.models.clip import CLIP
from cliplab.settings.build import build
from cliplab.settings.check_trainer import every_nth


@dataclass(frozen=True)
class Choices(ByMemory):
    """``choices`` are values of ``trainer.activation_checkpointing``; the first is what the others are compared with."""

    choices: Sequence[Any] = ("none", 2, "all")


@takes_fields(Choices)
def measure(work: Choices) -> Measured:
    """A step by each choice."""

    def contender_of(choice: Any, batch: MadeBatch, setting: Setting) -> Contender:
        model: CLIP = build(work.config["model"], "model")
        checkpoint_towers(model, every_nth(choice))
        return ours(work.config, batch, setting, model)

    prepared = work.prepared(pixels=not work.traced)
    return by_choice(work, "activation_checkpointing", work.choices, contender_of, prepared)
