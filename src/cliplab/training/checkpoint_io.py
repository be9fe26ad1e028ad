"""Write checkpoints as a whole or not at all."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from cliplab.files import whole_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file, and renames the file when it is complete and on the disk.

    A kill, a power cut or a full disk leaves the previous checkpoint untouched. Raises OSError when a write fails.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        try:
            with whole_file(target, "wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch wraps the error of a write
            reason = str(error.__cause__ or error.__context__ or error).splitlines()[0]
            kept = "; the previous checkpoint is intact: free disk space and resume" if target.is_file() else ""
            raise OSError(f"checkpoint {target} could not be written: {reason}{kept}") from error
