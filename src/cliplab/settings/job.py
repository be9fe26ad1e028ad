"""The input and the output of a verb: a Job and an Outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cliplab.settings.check_paths import check_there
from cliplab.settings.config import ConfigError, typed_keys


class Outcome(NamedTuple):
    """The return value of every verb. The command prints ``path``, what the verb wrote, last; it is None on ranks other than
    the first. ``figure`` is the metric by which a sweep compares jobs, if the verb has one."""

    path: Path | None
    figure: float | None = None


def check_images(config: Mapping[str, Any]) -> None:
    """Raises ConfigError when ``images=`` is missing, or is a local path that does not exist."""
    images = config["images"]
    if not images:
        name = config["task"]["name"]
        raise ConfigError(f"images: task={name} needs pictures; images=<folder, file, Parquet or data set>")
    for one in images if isinstance(images, list) else [images]:
        check_there("images", str(one))


@dataclass(frozen=True)
class Job:
    """The argument of every verb.

    ``config`` is the resolved and checked config, plain dicts and lists. ``composed`` is the same config with its
    interpolations, an omegaconf DictConfig. ``typed`` are the overrides of the command line.
    """

    config: dict[str, Any]
    composed: Any
    typed: Sequence[str]

    @property
    def run_dir(self) -> Path:
        """The folder in which this job writes."""
        return Path(self.config["paths"]["run"])

    @property
    def typed_keys(self) -> list[str]:
        """The dotted keys of the typed overrides."""
        return typed_keys(self.typed)

    @property
    def out(self) -> Path:
        """``out=``, or the run folder when it is not given."""
        return Path(self.config["out"] or self.run_dir).expanduser()
