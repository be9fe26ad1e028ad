"""A run's folder is this run's alone, however many begin in the same second."""

import secrets
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

TRIES = 1000


def claimed(folder: Path) -> Path:
    """Make the folder, or one beside it with another id where another process has it already: making a folder is what only
    one process succeeds in. Raises OSError when none can be made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    stem = folder.name.rpartition("-")[0] or folder.name
    for _ in range(TRIES):
        try:
            folder.mkdir()
        except FileExistsError:
            folder = folder.with_name(f"{stem}-{secrets.token_hex(4)}")
        else:
            return folder
    raise FileExistsError(f"{folder.parent}: no folder of a new name could be made in {TRIES} tries")


class ClaimFolder(Callback):
    """Gives a run whose folder was not typed one that no other run has."""

    def on_run_start(self, config: Any, **_: Any) -> None:
        if any(str(word).startswith("hydra.run.dir=") for word in config.hydra.overrides.hydra):
            return
        try:
            folder = claimed(Path(config.hydra.run.dir))
        except (OSError, OmegaConfBaseException):
            return  # Hydra makes the folder again, and what it raises is told with its key
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.run.dir = str(folder)
