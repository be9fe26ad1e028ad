"""A run that was moved keeps its best checkpoint and its score."""

import shutil
import warnings
from pathlib import Path

import pytest
import torch

from cliplab.training.callbacks import FollowMove

from .toys import checkpoints, fit

BEST = {"filename": "best", "monitor": "train/loss", "mode": "min", "every_n_train_steps": 1}


@pytest.mark.parametrize(("comes_along", "best_step"), [(True, 1), (False, 3)])
def test_a_worse_step_replaces_the_best_only_where_there_is_none(
    comes_along: bool, best_step: int, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fit([2.0, 50.0], [checkpoints(old), checkpoints(old, **BEST)])  # the first loss is 0, the others are not
    shutil.move(old, new)
    if not comes_along:
        (new / "best.ckpt").unlink()
    best = checkpoints(new, **BEST)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*dirpath.*")
        fit([3.0, 50.0], [FollowMove(), checkpoints(new), best], epochs=2, ckpt=new / "last.ckpt")
    assert torch.load(new / "best.ckpt", weights_only=True)["global_step"] == best_step
    assert best.best_model_path == str(new / "best.ckpt")
    assert (best.best_model_score == 0) == comes_along
    assert not old.exists()
