"""A run that was moved or copied goes on with what its checkpoints have reached."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint


class FollowMove(Callback):
    """Tells each ModelCheckpoint of a resumed run where its files are now.

    Lightning would forget the best score when the folder is another one, and a worse epoch would replace ``best.ckpt``. A
    score whose file did not come along is forgotten, so that the next epoch writes it anew.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        states = checkpoint.get("callbacks", {})
        for keeper in trainer.checkpoint_callbacks:
            state = states.get(keeper.state_key)
            if isinstance(keeper, ModelCheckpoint) and state and keeper.dirpath not in (None, state.get("dirpath")):
                states[keeper.state_key] = _moved(state, Path(keeper.dirpath))  # type: ignore[arg-type]


def _moved(state: dict[str, Any], place: Path) -> dict[str, Any]:
    """The state of a ModelCheckpoint whose folder is now ``place``."""

    def here(path: str) -> str:
        there = str(place / os.path.relpath(path, state["dirpath"])) if path and state.get("dirpath") else ""
        return there if there and Path(there).exists() else ""

    best = here(state["best_model_path"])
    return {
        **state,
        "dirpath": str(place),
        "best_model_path": best,
        "best_model_score": state["best_model_score"] if best else None,
        "kth_best_model_path": here(state["kth_best_model_path"]),
        "last_model_path": here(state["last_model_path"]),
        "best_k_models": {here(path): score for path, score in state["best_k_models"].items() if here(path)},
    }
