"""A run that was stopped goes on to the very result of one that was not."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cliplab.training.callbacks import ProgressBar
from cliplab.training.module import TrainingModule

from .conftest import only_run, write

WHOLE: dict[str, Any] = {}
WALL_CLOCK = ("train/images_per_second", "train/tokens_per_second")


class Killed(BaseException):
    """Stands for a signal that nothing can catch."""


def outcome(run: Path) -> dict[str, Any]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    with (run / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k not in WALL_CLOCK and v} for row in csv.DictReader(file)]
    history = [json.loads(line) for line in (run / "zeroshot" / "history.jsonl").read_text().splitlines()]
    for line in history:
        line.pop("seconds")
    return {
        "weights": checkpoint["state_dict"],
        "moments": [x for s in checkpoint["optimizer_states"][0]["state"].values() for x in s.values()],
        "rows": rows,
        "history": history,
    }


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for mine, theirs in zip(a["rows"], b["rows"], strict=True):
        assert {k: v for k, v in mine.items() if theirs.get(k) != v} == {}
        assert mine == theirs
    assert a["history"] == b["history"]
    assert all(torch.equal(a["weights"][key], value) for key, value in b["weights"].items())
    assert all(torch.equal(x, y) for x, y in zip(a["moments"], b["moments"], strict=True))


@pytest.fixture
def uninterrupted(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Trained once for all tests."""
    if not WHOLE:
        monkeypatch.setenv("CLIPLAB_ROOT", str(tmp_path / "whole"))
        assert command(*arguments) == 0
        monkeypatch.setenv("CLIPLAB_ROOT", str(tmp_path))
        WHOLE.update(outcome(only_run(tmp_path / "whole")))
    return WHOLE


@pytest.mark.parametrize("every", [2, None], ids=["every two steps", "every epoch"])
@pytest.mark.parametrize("stops", [(1, 4, 6), (3, 5, 7)], ids=str)
@pytest.mark.parametrize("gently", [True, False], ids=["sigterm", "kill"])
def test_resumed_equals_uninterrupted(
    stops: tuple[int, ...],
    every: int | None,
    gently: bool,
    uninterrupted: dict[str, Any],
    command: Callable[..., int],
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped in an epoch's middle and at its end, before the first checkpoint, at one and between two."""
    clamp = TrainingModule.on_train_batch_end
    pending = list(stops)

    def stopping(self: TrainingModule, *args: Any) -> None:
        clamp(self, *args)
        if pending and self.global_step == pending[0]:
            pending.pop(0)
            if not gently:
                raise Killed
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainingModule, "on_train_batch_end", stopping)
    argv = [*arguments, f"callbacks.checkpoint.every_n_train_steps={every or 'null'}"]
    for _ in stops:
        if gently:
            assert command(*argv) == 143
        else:
            with pytest.raises(Killed):
                command(*argv)
        run = only_run(tmp_path)
        if not gently:  # a killed process writes no last words
            manifest = json.loads((run / "manifest.json").read_text())
            (run / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
        argv = [f"resume={run}"]
    assert command(*argv) == 0
    same(outcome(only_run(tmp_path)), uninterrupted)
    assert len(json.loads((run / "manifest.json").read_text())["resumed"]) == len(stops)


def test_progress_counts_the_whole_epoch_after_a_stop_in_its_middle(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    finish = ProgressBar.on_train_batch_end

    def noting(self: ProgressBar, trainer: Any, *args: Any) -> None:
        finish(self, trainer, *args)
        (task,) = self.progress.tasks
        shown.append((task.completed, task.total))
        if len(shown) == 4:  # noticed after the fifth step, before it is shown
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ProgressBar, "on_train_batch_end", noting)
    argv = [a for a in arguments if a != "~callbacks.progress"]
    argv += ["callbacks.progress._target_=cliplab.training.callbacks.ProgressBar", "~callbacks.progress.every_n_steps"]
    assert command(*argv, "trainer.max_steps=8", "callbacks.progress.refresh_rate=1") == 143
    assert command(f"resume={only_run(tmp_path)}") == 0
    assert shown == [(1, 3), (2, 3), (3, 3), (1, 3), (3, 3), (1, 2), (2, 2)]


def test_resume_takes_values_but_no_groups(
    command: Callable[..., int], stopped_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(f"resume={tmp_path}/nowhere") == 1
    assert "is neither a file nor a folder" in capsys.readouterr().err
    run = stopped_run
    assert command(f"resume={run}", "data=emoji") == 1
    assert "not a whole group" in capsys.readouterr().err
    assert command(f"resume={run}", "trainer.max_epochs=2") == 0
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6


def test_data_under_a_checkpoint_may_move_but_not_change(
    command: Callable[..., int], stopped_run: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped_run
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(shapes, moved)
    other.mkdir()
    write(other, "train", each=6, first=1)

    def resumed(*more: str) -> int:
        (run / "manifest.json").unlink(missing_ok=True)
        return command(f"resume={run}", "trainer.max_epochs=2", *more)

    assert resumed(f"data.path={other}") == 1
    said = capsys.readouterr().err
    assert "the data are not those of the checkpoint: fingerprint of the data was" in said
    assert "data.allow_changed_data=true" in said
    assert resumed(f"data.path={moved}") == 0
    assert resumed(f"data.path={other}", "data.allow_changed_data=true", "trainer.max_epochs=3") == 0


def test_a_copied_run_goes_on_in_its_own_folder(
    command: Callable[..., int], one_epoch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, copy = one_epoch, tmp_path / "elsewhere" / "copy"
    shutil.copytree(run, copy)
    (copy / "manifest.json").unlink()
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    assert command(f"resume={copy}", "trainer.max_epochs=2") == 0
    assert f"this run was made in {run}; it goes on in {copy}" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert torch.load(copy / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    with (copy / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == [str(i) for i in range(7)]


def test_a_checkpoint_that_is_missing_or_broken_is_told(
    command: Callable[..., int], stopped_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped_run
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(b"")
    assert command(f"resume={run}") == 1
    assert f"{last}: this checkpoint is damaged" in capsys.readouterr().err.splitlines()[-1]
    last.unlink()
    (run / "manifest.json").unlink(missing_ok=True)
    assert command(f"resume={run}") == 0
    assert "the run starts over" in capsys.readouterr().out


def test_a_refused_change_leaves_a_finished_run_as_it_was(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without captions is found after the run has been opened."""
    assert command(*arguments) == 0
    run = only_run(tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "traceback.txt"}
    (tmp_path / "empty").mkdir()
    for status, *change in (
        (0, "trainer.max_epochs=1"),
        (1, "trainer.max_epochs=9", f"data.path={tmp_path / 'empty'}"),
    ):
        assert command(f"resume={run}", *change) == status
        after = {path: path.read_bytes() for path in before}
        assert [path.name for path in before if after[path] != before[path]] == []
    assert "empty" in capsys.readouterr().err
    assert json.loads((run / "manifest.json").read_text())["status"] == "finished"
