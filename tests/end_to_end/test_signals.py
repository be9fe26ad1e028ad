"""A signal while other processes read data, while data are built and while a set is evaluated: the command ends with its
status, and its manifest says so."""

import json
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cliplab.training.module import TrainingModule

from .conftest import only_run


def _kill_once(function: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    """The same function, which sends SIGTERM to its own process the first time that ``when`` says so."""
    sent: list[int] = []

    def around(*arguments: Any, **options: Any) -> Any:
        if not sent and when(*arguments):
            sent.append(1)
            everyone = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
            subprocess.run(["kill", "-TERM", *map(str, everyone)], check=True)  # as a scheduler does
        return function(*arguments, **options)

    return around


def _status(run: Path) -> str:
    return json.loads((run / "manifest.json").read_text())["status"]


def test_while_workers_read_data(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_two = _kill_once(TrainingModule.on_train_batch_end, lambda module, *_: module.global_step == 2)
    monkeypatch.setattr(TrainingModule, "on_train_batch_end", after_two)
    assert command(*arguments, "data.num_workers=2") == 143
    run = only_run(tmp_path)
    assert _status(run) in ("interrupted", "preempted")
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3, (
        "one step is finished first"
    )


def test_while_data_are_opened(
    command: Callable[..., int],
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cliplab.data import captions

    monkeypatch.setattr(captions, "open_rows", _kill_once(captions.open_rows, lambda *_: True))
    assert command(*arguments) == 143
    run = only_run(tmp_path)
    assert _status(run) in ("interrupted", "preempted")
    assert f"go on with: python run.py resume={run}" in capsys.readouterr().err


def test_while_a_set_is_evaluated(
    command: Callable[..., int], stopped_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cliplab.models.clip import CLIP

    monkeypatch.setattr(CLIP, "encode_image", _kill_once(CLIP.encode_image, lambda *_: True))
    assert command("task=evaluate", f"run={stopped_run}", "trainer.accelerator=cpu") == 143
    (folder,) = (tmp_path / "logs" / "evaluate").glob("*/*")
    assert _status(folder) in ("interrupted", "preempted")
    assert not (folder / "results").exists()


def test_after_the_last_step(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on although no step is left, and its last figures are those that it would have had."""
    from cliplab.assembly import training_results

    whole = tmp_path / "whole"
    assert command(*arguments, f"hydra.run.dir={whole}", "trainer.max_epochs=1") == 0
    interrupted = _kill_once(training_results.model_fingerprint, lambda *_: True)
    with monkeypatch.context() as patch:
        patch.setattr(training_results, "model_fingerprint", interrupted)
        run = tmp_path / "run"
        assert command(*arguments, f"hydra.run.dir={run}", "trainer.max_epochs=1") == 143
    assert _status(run) == "preempted"
    assert command(f"resume={run}") == 0
    there = [json.loads((folder / "manifest.json").read_text())["final"] for folder in (whole, run)]
    assert list(there[0]) == list(there[1])
    assert all(there[0][key] == there[1][key] for key in there[0] if not key.endswith("per_second"))
    assert {"train/loss", "train/lr", "zeroshot/folder/acc1"} <= set(there[0])


def test_in_a_job_of_a_sweep_before_it_has_begun(
    command: Callable[..., int], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cliplab.settings import check_job

    monkeypatch.setattr(check_job, "check_parts", _kill_once(check_job.check_parts, lambda *_: True))
    assert command("-m", *arguments, "seed=1,2", "sweep_name=s") == 143


def test_an_error_after_a_signal_is_its_consequence(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library whose code or import is interrupted may raise another error."""
    from cliplab.cli import arguments, composition
    from cliplab.settings import check_job

    def broken(*_: Any) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise AttributeError("partially initialized module") from None

    for module, name in ((arguments, "read_arguments"), (composition, "start"), (check_job, "check_parts")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, broken)
            assert command("data=emoji") == 143
        assert capsys.readouterr().err == "stopped by SIGTERM\n"
