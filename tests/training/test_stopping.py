"""A signal at any moment: the run ends at the next batch, whichever kind, and goes on to the very result of one that was
never stopped."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from cliplab.signals import leave_signals_to_the_parent, listening
from cliplab.training.callbacks import Evaluate, StopBetweenSteps
from cliplab.training.loggers import CSVLogger

from .toys import ToyEvaluator, checkpoints, fit

BATCHES, EPOCHS = [1.0, -2.0, 0.3], 3


class Moments(Callback):
    """Counts what happens, and sends the signal at a given moment."""

    def __init__(self, at: int | None, number: int = signal.SIGTERM) -> None:
        self.at, self.number, self.passed = at, number, 0

    def pass_by(self, *_: Any, **__: Any) -> None:
        if self.passed == self.at:
            os.kill(os.getpid(), self.number)
        self.passed += 1

    setup = on_train_start = on_train_epoch_start = on_train_batch_start = on_before_backward = pass_by
    on_train_batch_end = on_train_epoch_end = on_train_end = pass_by


def train(folder: Path, moments: Moments, cadence: dict[str, Any], patience: int) -> int:
    """As task=train does; the exit status."""
    last = folder / "last.ckpt"
    evaluation, stopping = Evaluate(**cadence), StopBetweenSteps(str(last))
    early = EarlyStopping("zeroshot/toy/acc1", mode="max", patience=patience, check_on_train_epoch_end=True)
    saving = checkpoints(folder, save_on_train_epoch_end=True)
    best = checkpoints(folder, filename="best", monitor="zeroshot/toy/acc1", mode="max", save_on_train_epoch_end=True)
    with listening() as request:
        stopping.prepare(request)
        evaluation.prepare(
            evaluators=[ToyEvaluator(looking=moments.pass_by), ToyEvaluator("other", moments.pass_by)],
            tokenizer=None,  # type: ignore[arg-type]
            run_dir=folder,
            steps_per_epoch=len(BATCHES),
            total_steps=EPOCHS * len(BATCHES),
            request=request,
        )
        callbacks = [moments, evaluation, stopping, early, saving, best]
        try:
            trainer, toy = fit(BATCHES, callbacks, EPOCHS, last, logger=CSVLogger(str(folder)))
            if trainer.interrupted:
                raise KeyboardInterrupt
            trainer.save_checkpoint(last)
            evaluation.finish(trainer, toy)  # type: ignore[arg-type]
        except (KeyboardInterrupt, SystemExit):
            return request.status
    return 0


def outcome(folder: Path) -> dict[str, Any]:
    history = [json.loads(line) for line in (folder / "zeroshot" / "history.jsonl").read_text().splitlines()]
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    saved = {name: torch.load(folder / f"{name}.ckpt", weights_only=True) for name in ("last", "best")}
    return {
        "history": [{k: v for k, v in line.items() if k != "seconds"} for line in history],
        "rows": rows,
        "weights": {name: float(c["state_dict"]["model.weight"]) for name, c in saved.items()},
        "steps": {name: c["global_step"] for name, c in saved.items()},
    }


@pytest.mark.parametrize(
    ("cadence", "patience", "number", "moments"),
    [
        ({}, 9, signal.SIGTERM, slice(0, None, 7)),
        ({"every_n_steps": 2}, 9, signal.SIGINT, slice(3, None, 9)),
        ({}, 1, signal.SIGTERM, slice(25, None, 5)),  # from the epoch on which early stopping ends the run
    ],
    ids=["by epochs", "by steps", "early stopping"],
)
def test_stopped_at_any_moment_a_run_ends_as_one_that_was_not(
    cadence: dict[str, Any], patience: int, number: int, moments: slice, tmp_path: Path
) -> None:
    whole, counting = tmp_path / "whole", Moments(None)
    assert train(whole, counting, cadence, patience) == 0
    expected = outcome(whole)
    for at in range(counting.passed)[moments]:
        folder = tmp_path / str(at)
        assert train(folder, Moments(at, number), cadence, patience) == 128 + number, at
        assert train(folder, Moments(None), cadence, patience) == 0
        assert outcome(folder) == expected, at


def test_a_signal_during_an_evaluation_is_honoured_at_the_next_batch(tmp_path: Path) -> None:
    for at in (3, 18):  # of the evaluation before training, and of the first epoch's
        moments = Moments(at)
        assert train(tmp_path / str(at), moments, {}, 9) == 143
        assert moments.passed <= at + 2


def test_outside_gentle_work_the_first_signal_ends_at_once_and_inside_the_second() -> None:
    with listening() as request:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert request.status == 143
    with listening() as request, request.gently():
        signal.raise_signal(signal.SIGINT)
        assert request.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert request.status == 130


def test_handlers_are_put_back_and_a_forked_process_is_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with listening():
        here, there = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(there, b".")
            time.sleep(30)
            os._exit(0)
        os.read(here, 1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nothing tells who sent a signal")
def test_a_process_that_reads_data_ends_at_its_parents_word_alone() -> None:
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        leave_signals_to_the_parent()
        os.write(there, b".")
        time.sleep(30)
        os._exit(3)
    os.read(here, 1)
    for name in ("-INT", "-TERM"):
        subprocess.run(["kill", name, str(child)], check=True)  # as a scheduler, or a terminal
    time.sleep(0.2)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
