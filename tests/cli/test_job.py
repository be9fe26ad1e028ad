"""A job leaves in its folder how it ended; what was there before is left alone."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cliplab.cli.job import _error_message, _one_line_warning
from cliplab.runs.outcome import job_folders, read_manifest, record_end, unfinished_jobs
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome
from tests.commands import exit_status


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command with a task of the test's own in place of training."""
    monkeypatch.setenv("CLIPLAB_ROOT", str(tmp_path))

    def start(task: Callable[[Job], Outcome], *argv: str) -> int:
        monkeypatch.setattr("cliplab.settings.verbs.run_verb", task)
        return exit_status(monkeypatch, *argv)

    return start


def writing(job: Job) -> Outcome:
    job.run_dir.mkdir(parents=True, exist_ok=True)
    (job.run_dir / "config.yaml").write_text("")
    (job.run_dir / "manifest.json").write_text(json.dumps({"status": "running", "run_name": "x"}))
    return Outcome(job.run_dir)


def raising(error: BaseException) -> Callable[[Job], Outcome]:
    def task(job: Job) -> Outcome:
        writing(job)
        raise error

    return task


@pytest.mark.parametrize("key", ["hydra.run.dir", "paths.run"])
def test_a_folder_that_holds_a_run_is_left_alone(
    run: Callable[..., int], key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a=b c"
    assert run(writing, f"{key}='{folder}'") == 0
    before = {file: file.read_bytes() for file in folder.rglob("*")}
    capsys.readouterr()
    assert run(writing, f"{key}='{folder}'", "seed=2") == 1
    said = capsys.readouterr().err.strip()
    assert f"{folder} already holds a run (running), which is left as it is" in said
    assert said.endswith(f"go on with it: python run.py \"resume='{folder}'\"")
    assert {file: file.read_bytes() for file in folder.rglob("*")} == before
    assert not (tmp_path / "logs").exists()


def test_a_run_that_failed_before_any_work_gives_its_folder_to_the_corrected_command(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(raising(ValueError("data.batch_size: 9 exceeds the 5")), f"hydra.run.dir={folder}") == 1
    assert (folder / "traceback.txt").exists()
    assert run(writing, f"hydra.run.dir={folder}", "seed=2") == 0
    assert not (folder / "traceback.txt").exists()
    assert read_manifest(folder)["status"] == "running"
    (folder / "manifest.json").write_text(json.dumps({"status": "failed"}))
    (folder / "metrics.csv").write_text("step")
    assert run(writing, f"hydra.run.dir={folder}") == 1
    assert "already holds a run (failed)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("no"), AssertionError(), ZeroDivisionError("0")], ids=repr)
def test_an_unknown_error_is_one_line_with_the_file_of_its_traceback(
    run: Callable[..., int], error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error), f"hydra.run.dir={tmp_path}/run") == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {type(error).__name__}: ")
    assert said.endswith(f"the traceback is in {tmp_path}/run/traceback.txt")
    assert "in task\n" in (tmp_path / "run" / "traceback.txt").read_text()
    facts = read_manifest(tmp_path / "run")
    assert (facts["status"], facts["error"], facts["run_name"]) == ("failed", said, "x")


@pytest.mark.parametrize(("stop", "status"), [(SystemExit(143), 143), (KeyboardInterrupt(), 130)], ids=repr)
def test_a_task_that_was_stopped_says_so_in_its_folder(
    run: Callable[..., int], stop: BaseException, status: int, tmp_path: Path
) -> None:
    assert run(raising(stop), f"hydra.run.dir={tmp_path}/run") == status
    assert read_manifest(tmp_path / "run")["status"] == {143: "preempted", 130: "interrupted"}[status]


def test_a_mistake_that_a_task_finds_leaves_no_folder_unless_something_was_done(
    run: Callable[..., int], tmp_path: Path
) -> None:
    assert run(raising(ConfigError("a: b")), f"hydra.run.dir={tmp_path}/run") == 1
    assert not (tmp_path / "run").exists()

    def working(job: Job) -> Outcome:
        writing(job)
        (job.run_dir / "metrics.csv").touch()
        raise ConfigError("a: b")

    assert run(working, f"hydra.run.dir={tmp_path}/run") == 1
    assert read_manifest(tmp_path / "run")["status"] == "failed"


def test_sigterm_before_a_task_listens_ends_the_command_as_ctrl_c_does(run: Callable[..., int], tmp_path: Path) -> None:
    def early(job: Job) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal comes first")

    before = signal.getsignal(signal.SIGTERM)
    assert run(early, f"hydra.run.dir={tmp_path}/run") == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert not (tmp_path / "run").exists()


def test_a_sweep_goes_on_whatever_a_job_raises(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: dict[int, Any] = {1: KeyError("x"), 2: MemoryError(), 3: SystemExit(3), 4: None}

    def task(job: Job) -> Outcome:
        error = errors[job.config["seed"]]
        if error is not None:
            raise error
        return Outcome(None, 0.5)

    sweep = tmp_path / "sweep"
    assert run(task, "-m", "seed=1,2,3,4", f"hydra.sweep.dir={sweep}") == 0
    assert [read_manifest(job)["status"] for job in job_folders(sweep)] == ["failed", "failed", "failed", "finished"]
    assert [job.name for job in unfinished_jobs(sweep)] == ["0", "1", "2"]
    assert len((sweep / "summary.csv").read_text().splitlines()) == 5
    capsys.readouterr()
    assert run(task, "-m", "seed=4,4", "data.batch_size=8", f"hydra.sweep.dir={sweep}") == 1
    assert "holds the runs of another multirun, without data.batch_size=8" in capsys.readouterr().err
    assert run(task, "-m", "seed=1,4", "sweep.fail_on_error=true", f"hydra.sweep.dir={sweep}") == 1
    assert run(task, "-m", "seed=4", f"hydra.sweep.dir={tmp_path}/good") == 0
    monkeypatch.setattr("cliplab.runs.sweep.summarise", lambda folder: {}["half imported"])
    capsys.readouterr()
    assert run(task, "-m", "seed=4", f"hydra.sweep.dir={tmp_path}/good") == 1
    assert "could not be written: KeyError: 'half imported'; make it with: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["optimizer.lr=1e-3:1e-2"], "optimizer.lr: '1e-3:1e-2' is not a float"),
        (["optimizer.lr=[1e-3,1e-2]", "seed=1,2"], "optimizer.lr: "),
        (["data.batch_size=0,8"], "data.batch_size: 0 must be 1 or more"),
        (["optimizer.lr=range(1e-4,1e-2)"], "for any number between write interval(0.0001, 0.01)"),
        (["optimizer.lr=loguniform(1e-4, 1e-2)"], "a search takes tag(log,interval(1e-4,1e-2)); type -m sweep=tpe"),
        (["sweep=tpe", "seed=1,2", "sweep.storage=redis://u:secret@host/0"], "sweep.storage: redis cannot be used"),
        (["sweep=asha", "seed=1,2", "callbacks.prune.pruner.reduction_factor=1"], "callbacks.prune.pruner: "),
        (["hydra/sweeper=optuna", "seed=1,2"], "hydra/sweeper: optuna is not used here; choose by sweep=, as asha, gp"),
    ],
)
def test_a_mistake_is_told_before_the_first_job(
    run: Callable[..., int], words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(writing, "-m", *words) == 1
    said = capsys.readouterr().err
    assert told in said
    assert "secret" not in said
    assert not list((tmp_path / "logs").glob("multiruns/*/*"))


def test_a_sweep_that_does_not_compose_leaves_nothing(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(writing, "-m", "data=emoji,emojj") == 1
    assert "data: there is no choice 'emojj'; did you mean 'emoji'?" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_what_a_job_ended_with_is_added_to_what_it_wrote(tmp_path: Path) -> None:
    record_end(tmp_path, "finished", ["a=1"], value=2)
    record_end(tmp_path, "failed", ["b=1"])
    assert read_manifest(tmp_path) == {"status": "failed", "value": 2}
    assert (tmp_path / "overrides.yaml").read_text() == "- a=1\n"
    (tmp_path / "manifest.json").write_text("{")
    assert read_manifest(tmp_path) == {}


def test_an_error_of_the_file_system_names_the_typed_key(tmp_path: Path) -> None:
    error = FileNotFoundError(2, "No such file or directory", "/proc/x.parquet.parts")
    said = _error_message(error, tmp_path, ["images=pictures", "out=/proc/x.parquet"])
    assert said == "error: out: [Errno 2] No such file or directory: '/proc/x.parquet.parts'"
    assert _error_message(error, tmp_path, ["images=pictures"]).startswith("error: [Errno 2]")


def test_a_warning_is_one_line_without_its_place_in_the_code() -> None:
    assert _one_line_warning(UserWarning("one\n two"), UserWarning, "a.py", 3, line="x") == "warning: one two\n"


def allocating(size: int) -> Exception:
    """What PyTorch really raises when the machine has no such memory."""
    try:
        torch.empty(size)
    except RuntimeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB." + 40 * " more"),
            " (CUDA out of memory. ",
        ),
        (allocating(10**15), "DefaultCPUAllocator: can't allocate memory"),
        (MemoryError(), "out of memory; take"),
    ],
    ids=["device", "machine", "Python"],
)
def test_out_of_memory_says_what_helps(error: Exception, said: str, tmp_path: Path) -> None:
    assert "take a smaller data.batch_size" in _error_message(error, tmp_path / "no run")
    (tmp_path / "config.yaml").touch()
    told = _error_message(error, tmp_path)
    assert told.startswith("error: out of memory")
    assert said in told
    assert told.endswith(f"; take a smaller data.batch_size; the traceback is in {tmp_path / 'traceback.txt'}")
    assert len(told) < 250 + len(str(tmp_path))
    assert "out of memory" not in _error_message(RuntimeError("sizes differ"), tmp_path)
