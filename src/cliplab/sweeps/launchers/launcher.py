"""What the sweep asks of a launcher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cliplab.sweeps.jobs import Job


@dataclass(frozen=True)
class Here:
    """What a launcher is told of the command: ``run`` composes and runs a job in this process, ``ranks`` tells how many
    processes a job's own config asks for."""

    folder: Path
    run: Callable[[Job], None]
    ranks: Callable[[Job], int]


class Launcher(Protocol):
    """Runs jobs, each in its folder, where its outcome is read. ``slots`` is how many it runs side by side; ``elsewhere``
    says that they may run on other machines than the command."""

    slots: int
    elsewhere: bool

    def prepare(self, here: Here) -> None:
        """Called once, before the first job."""

    def start(self, job: Job) -> None:
        """Begin a job, or go on with it. It may return at once."""

    def wait(self) -> Sequence[Job]:
        """The jobs that are over. Waits a moment where there are none."""

    def stop(self) -> None:
        """End all jobs, each after its step with a checkpoint, and wait for them."""


def several_ranks(config: Any) -> int:
    """How many processes a job's config asks for on one machine; 2 stands for several of unknown number."""
    trainer = config.get("trainer") or {}
    devices, strategy = trainer.get("devices", 1), str(trainer.get("strategy", "auto"))
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if isinstance(devices, int) and devices >= 1:
        return devices
    if isinstance(devices, list | tuple):
        return len(devices)
    alone = trainer.get("accelerator") == "cpu" and strategy == "auto"
    return 1 if alone else 2
