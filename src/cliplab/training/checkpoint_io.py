"""Checkpoints that are whole or not there."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from cliplab.files import whole_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole and on the disk.

    A kill, a power cut or a full disk in between leaves the checkpoint before it as it was. Raises OSError that says so.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        try:
            with whole_file(target, "wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch wraps what a write raises
            reason = str(error.__cause__ or error.__context__ or error).splitlines()[0]
            kept = "; the checkpoint before it is whole: make room and resume" if target.is_file() else ""
            raise OSError(f"checkpoint {target} could not be written: {reason}{kept}") from error
