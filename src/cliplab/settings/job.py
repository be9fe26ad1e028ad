"""One job: what a verb is asked to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """What every verb is given.

    ``config`` is the resolved and checked config, plain dicts and lists. ``composed`` is the same config with its
    interpolations, an omegaconf DictConfig. ``typed`` are the overrides of the command line.
    """

    config: dict[str, Any]
    composed: Any
    typed: Sequence[str]

    @property
    def run_dir(self) -> Path:
        """Where this job writes."""
        return Path(self.config["paths"]["run"])
