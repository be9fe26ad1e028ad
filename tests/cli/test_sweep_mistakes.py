"""A mistake in a sweep is told in one line, before its first job."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("hydra.sweeper.n_trials=5", "hydra.sweeper.n_trials: no such key; type sweep.trials=…"),
        ("n_trials=5", "n_trials: no such key; type sweep.trials=…"),
        ("sweep.sampler=tpe", "type sweep=random, tpe or gp; its arguments are sweep.method.sampler.…"),
        ("hydra.sweeper.sampler.seed=5", "type sweep.seed=…"),
        ("hydra.sweeper.n_jobs=4", "type launcher=joblib launcher.jobs=…"),
        ("hydra.launcher.n_jobs=4", "type launcher=joblib launcher.jobs=…"),
        ("hydra.sweeper.params.optimizer.lr=1,2", "type optimizer.lr=… itself, with its values or range"),
        ("hydra.job.num=1,2", "hydra.job.num: it holds for the whole command"),
        ("repeat=5", "type -m sweep=seeds sweep.trials=…"),
        ("launcher.jobs=4", "launcher.jobs: no such key; type launcher=joblib beside it"),
        ("sweep.direction=max", "neither maximize nor minimize; did you mean 'maximize'?"),
        ("sweep.trails=5", "did you mean 'sweep.trials'?"),
        ("sweep.trials=0 sweep=tpe", "sweep.trials: 0 must be 1 or more"),
    ],
)
def test_words_of_other_sweepers_are_answered_with_ours(word: str, message: str, told: Callable[..., str]) -> None:
    assert message in told("-m", "seed=1,2", *word.split())


def test_a_value_that_comes_with_some_of_the_choices_only(told: Callable[..., str], tmp_path: Path) -> None:
    message = told("-m", "optimizer=sgd,adamw", "optimizer.momentum=0.9")
    assert message.endswith("type \"optimizer.momentum=tag('optimizer=sgd',choice(0.9))\"")
    assert "optimizer.mmntum: no such key" in told("-m", "optimizer=sgd,adamw", "optimizer.mmntum=0.9")


def test_an_experiment_cannot_choose_for_the_sweep_it_is_a_job_of(told: Callable[..., str], tmp_path: Path) -> None:
    for name, text in {"a": "sweep: {trials: 7}", "b": "launcher: {jobs: 4}"}.items():
        file = tmp_path / "mine" / "experiment" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# @package _global_\ndefaults:\n  - emoji\nname: {name}\n{text}\n")
    place = f"--config-dir={tmp_path / 'mine'}"
    assert "sweep.trials: a choice that only some jobs make sets it" in told("-m", place, "experiment=emoji,a")
    assert "launcher.jobs: a choice that only" in told("-m", place, "experiment=b,emoji")
    late = tmp_path / "mine" / "experiment" / "c.yaml"
    late.write_text("# @package _global_\ndefaults:\n  - emoji\n  - override /launcher: joblib\nname: c\n")
    assert "each command chooses anew; type launcher=<choice> instead" in told(place, "experiment=c")


WRONG_JOBS = [
    ("optimizer.lr=1e-3,fast", "config error: optimizer.lr: 'fast' is not a float; it must be above 0"),
    ("data.batch_size=32,-4,64", "data.batch_size: -4 must be 1 or more"),
    ("model.image_encoder.width=128,65", "model.image_encoder.width=65: model.image_encoder.heads: 4 does not divide"),
    ("seed=1,2 data.num_workers=1,5000", "data.num_workers: 5000 processes are too many for the"),
    ("seed=1,2 trainer.max_steps=abc", "trainer.max_steps: 'abc' is not an int"),
    ("optimizer=adamw,nosuch", "optimizer: there is no choice 'nosuch'; the choices are"),
    ("optimizer=[adamw,lion],muon", "optimizer=[adamw,lion]: optimizer.eps: timm.optim.Lion takes no argument"),
    (
        "model.image_encoder.width=128,120 model.image_encoder.heads=4,3,16",
        "model.image_encoder.heads: 3 does not divide width 128",
    ),
    (
        "model.image_encoder.width=128,120 model.image_encoder.heads=4,16",
        "model.image_encoder.width=120 model.image_encoder.heads=16: model.image_encoder.heads: 16 does not divide",
    ),
    (
        "optimizer=sgd,adamw optimizer.momentum=tag('optimizer=sgd',choice(0.9,2.5))",
        "optimizer.momentum: 2.5 must be between 0 and 1",
    ),
    ("sweep=random optimizer.lr=interval(-1,1)", "optimizer.lr: -1.0 must be above 0"),
    ("sweep=random scheduler.warmup_steps=int(interval(-30,50))", "scheduler.warmup_steps: -30 must be 0 or more"),
    ("sweep=random optimizer.lr=1e-3,fast", "optimizer.lr: 'fast' is not a float"),
    ("sweep=random data.max_bad_fraction=interval(0.5,1.5)", "data.max_bad_fraction: 1.5 must be between 0 and 1"),
]


@pytest.mark.parametrize(("words", "message"), WRONG_JOBS, ids=[words for words, _ in WRONG_JOBS])
def test_a_value_that_a_job_cannot_have_is_told_before_all_jobs(
    words: str, message: str, told: Callable[..., str]
) -> None:
    assert message in told("-m", *words.split())


def test_a_search_may_hold_combinations_that_fail(told: Callable[..., str]) -> None:
    """Each of the values fits one of the others. What comes next is told instead."""
    space = ["model.image_encoder.width=128,120", "model.image_encoder.heads=3,4"]
    assert "heads: 3 does not divide width 128" in told("-m", *space)
    assert told("-m", *space, "sweep=random", "hydra.sweep.dir=/proc/x").startswith(
        "config error: hydra.sweep.dir: /proc/x"
    )


def test_jobs_of_a_cluster_are_not_held_to_this_machine(
    told: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cliplab.settings.check_trainer.gpu_is_possible", lambda: False)
    words = ["-m", "trainer=gpu", "hydra.sweep.dir=/proc/x", "data.num_workers=1,500"]
    assert "trainer.accelerator: no GPU was found" in told(*words)
    assert told(*words, "launcher=slurm").startswith("config error: hydra.sweep.dir: /proc/x")
