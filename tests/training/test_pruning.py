"""A job of a search ends where the pruner sees no hope, and keeps to that when it goes on."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cliplab.study import TRIAL, open_storage
from cliplab.training.callbacks import Evaluate, Prune
from cliplab.training.callbacks.evaluate import Latest
from cliplab.training.callbacks.pruning import how_it_ended

optuna = pytest.importorskip("optuna")
STEPS = 3  # between two evaluations


def train(study: Any, folder: Path, values: list[float], begin: int = 0, total: int = 5) -> Prune:
    """Train a job's trial: its evaluations have these values. The callback comes back."""
    evaluation = Evaluate()
    evaluation.steps_per_epoch, evaluation.total_steps = STEPS, STEPS * total
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    prune = Prune(str(folder), pruner)
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    trainer: Any = SimpleNamespace(
        callbacks=[evaluation, prune], is_global_zero=True, strategy=strategy, should_stop=False
    )
    trainer.global_step = begin * STEPS
    evaluation.latest = Latest(trainer.global_step, {"acc": values[begin - 1]} if begin else None)
    prune.on_train_start(trainer, None)
    while not trainer.should_stop and trainer.global_step < evaluation.total_steps:
        trainer.global_step += 1
        if trainer.global_step % STEPS == 0:
            evaluation.latest = Latest(trainer.global_step, {"acc": values[trainer.global_step // STEPS - 1]})
        prune.on_train_batch_end(trainer)
    return prune


@pytest.fixture
def study(tmp_path: Path) -> Any:
    return optuna.create_study(storage=open_storage(str(tmp_path / "j")), study_name="s", direction="maximize")


def job(study: Any, tmp_path: Path) -> Path:
    number = study.ask().number
    folder = tmp_path / str(number)
    folder.mkdir()
    facts = {"storage": str(tmp_path / "j"), "study": "s", "trial": number, "metric": "acc"}
    (folder / TRIAL).write_text(json.dumps(facts))
    return folder


def test_a_job_below_the_others_is_pruned_at_its_first_evaluation(study: Any, tmp_path: Path) -> None:
    good = [0.5, 0.6, 0.7, 0.8, 0.9]
    assert train(study, job(study, tmp_path), good).pruned_at is None
    assert train(study, job(study, tmp_path), [0.6, *good[1:]]).pruned_at is None
    folder = job(study, tmp_path)
    prune = train(study, folder, [0.1] * 5)
    assert prune.pruned_at == STEPS
    assert how_it_ended([prune]) == {"status": "pruned", "pruned_at": STEPS}
    assert study.trials[2].intermediate_values == {1: 0.1}
    assert train(study, folder, [0.1] * 5, begin=1).pruned_at == STEPS, "also when it goes on from there"
    assert train(study, folder, [0.1] * 5).pruned_at == STEPS, "or from before it"
    study.tell(2, state=optuna.trial.TrialState.PRUNED)
    assert train(study, folder, [0.1] * 5, begin=1).pruned_at is None, "by hand it goes on to its end"


def test_a_run_alone_and_a_metric_that_is_not_evaluated_are_not_pruned(
    study: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    assert how_it_ended([train(study, alone, [0.1] * 5)]) == {"status": "finished"}
    folder = job(study, tmp_path)
    facts = json.loads((folder / TRIAL).read_text())
    (folder / TRIAL).write_text(json.dumps({**facts, "metric": "other"}))
    assert train(study, folder, [0.1] * 5).pruned_at is None
    assert capsys.readouterr().err == "sweep.metric: other is not evaluated while training; no job is pruned\n"
