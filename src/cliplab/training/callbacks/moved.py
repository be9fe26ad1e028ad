"""A run that was moved or copied keeps the best score of its checkpoints."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint


class FollowMove(Callback):
    """Tells each ModelCheckpoint of a resumed run where its files are now.

    Lightning forgets the best score when the folder has changed, so that a worse epoch would replace ``best.ckpt``. A score
    whose file is missing is forgotten, so that the next epoch writes the file again.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        states = checkpoint.get("callbacks", {})
        for keeper in trainer.checkpoint_callbacks:
            state = states.get(keeper.state_key)
            if isinstance(keeper, ModelCheckpoint) and state and keeper.dirpath not in (None, state.get("dirpath")):
                states[keeper.state_key] = _moved(state, Path(keeper.dirpath))  # type: ignore[arg-type]


def _moved(state: dict[str, Any], place: Path) -> dict[str, Any]:
    """The state of a ModelCheckpoint whose folder is now ``place``."""

    def moved_path(path: str) -> str:
        """The path of a file in the new folder; "" when the file is missing there."""
        if not path or not state.get("dirpath"):
            return ""
        moved = place / os.path.relpath(path, state["dirpath"])
        return str(moved) if moved.exists() else ""

    best = moved_path(state["best_model_path"])
    return {
        **state,
        "dirpath": str(place),
        "best_model_path": best,
        "best_model_score": state["best_model_score"] if best else None,
        "kth_best_model_path": moved_path(state["kth_best_model_path"]),
        "last_model_path": moved_path(state["last_model_path"]),
        "best_k_models": {
            moved_path(path): score for path, score in state["best_k_models"].items() if moved_path(path)
        },
    }
