"""A checkpoint is whole or not there; it goes on over the data it was made of."""

import errno
import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cliplab.training.checkpoint_io import AtomicCheckpointIO

from .conftest import only_run, write
from .test_kill import same, start, status

BEFORE, AFTER = {"step": 1, "w": torch.arange(5.0)}, {"step": 2, "w": torch.randn(300_000)}


class FullDisk(io.FileIO):
    """Takes a hundred thousand bytes, then there is no room."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(BEFORE, target)
    monkeypatch.setattr(Path, "open", lambda self, mode: FullDisk(self, mode.replace("b", "")))
    with pytest.raises(
        OSError, match=r"last.ckpt could not be written: .*No space left.*the previous checkpoint is intact"
    ):
        AtomicCheckpointIO().save_checkpoint(AFTER, target)
    monkeypatch.undo()
    assert same(torch.load(target, weights_only=True), BEFORE)
    assert list(target.parent.iterdir()) == [target]


def _killed_while_writing(target: Path, moment: str) -> None:
    setattr(os, moment, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    AtomicCheckpointIO().save_checkpoint(AFTER, target)


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_kill_while_writing_leaves_the_checkpoint_before(moment: str, tmp_path: Path) -> None:
    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(BEFORE, target)

    assert status(start(_killed_while_writing, target, moment)) == -signal.SIGKILL
    assert same(torch.load(target, weights_only=True), BEFORE)
    AtomicCheckpointIO().save_checkpoint(AFTER, target)
    assert same(torch.load(target, weights_only=True), AFTER)


def test_changed_data_is_refused_unless_allowed(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "train", each=6, first=0)
    write(folder, "validation", each=1, first=6)
    argv = [f"data.path={folder}" if a.startswith("data.path=") else a for a in arguments]
    assert command(*argv, "trainer.max_epochs=1") == 0
    run = only_run(tmp_path)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    write(folder, "train", each=6, first=1)
    again = [f"resume={run}", "trainer.max_epochs=2"]
    assert command(*again) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the data are not those of the checkpoint: fingerprint of the data was" in said
    assert "data.allow_changed_data=true" in said
    assert command(*again, "data.batch_size=12", "data.allow_changed_data=true") == 0
    assert command(f"resume={run}") == 0
