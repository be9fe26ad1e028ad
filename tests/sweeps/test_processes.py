"""Jobs in processes of their own: side by side, killed, and gone on with. These tests start interpreters, since what a
process leaves behind is what they test."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cliplab import cli
from cliplab.runs.outcome import job_folders, read_manifest
from cliplab.sweeps.devices import share, variables
from tests.commands import exit_status
from tests.processes import start, status

from .pretend import STEPS

ROOT = Path(__file__).parents[2]
PRETEND = ["++task.function=tests.sweeps.pretend.run", "++task.builds=false", "++trainer.limit_train_batches=null"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command in this process, with the pretended task."""
    monkeypatch.setenv("CLIPLAB_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(ROOT)
    return lambda *argv: exit_status(monkeypatch, "-m", *PRETEND, "sweep_name=s", *argv)


def steps(job: Path) -> list[str]:
    return (job / "steps").read_text().splitlines() if (job / "steps").is_file() else []


def test_jobs_side_by_side_share_the_devices_and_one_that_is_killed_is_failed(
    run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert run("seed=1,2,3", "launcher=joblib") == 0
    jobs = job_folders(tmp_path / "logs" / "multiruns" / "s")
    facts = [read_manifest(job) for job in jobs]
    assert [f["status"] for f in facts] == ["finished", "failed", "finished"]
    assert [f.get("optimized_metric", {}).get("value") for f in facts] == [1.08, None, 3.08]
    told = "the process was killed (signal 9), as a system does that runs out of memory"
    assert told in facts[1]["error"]
    assert f"job 1: error: {told}" in capsys.readouterr().err
    gpus = [steps(job)[0].split("'")[3] for job in jobs]
    assert sorted(gpus[:2]) == ["4", "7"], "one each"
    assert all(steps(job)[0].split("'")[1] != "" for job in jobs)


def _command(root: Path, argv: list[str]) -> None:
    os.environ["CLIPLAB_ROOT"] = str(root)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    sys.argv = ["run.py", *argv]
    cli.main()


@pytest.mark.parametrize(
    ("number", "launcher", "ended"),
    [
        (signal.SIGKILL, "joblib", -9),
        (signal.SIGTERM, "joblib", 143),
        (signal.SIGINT, "basic", 130),
        (signal.SIGKILL, "basic", -9),
    ],
    ids=lambda x: x.name if isinstance(x, signal.Signals) else "",
)
def test_a_sweep_that_was_ended_goes_on(
    number: signal.Signals, launcher: str, ended: int, run: Callable[..., int], tmp_path: Path
) -> None:
    """No step is done twice, and none is left out: no process of the first command works on."""
    sweep = tmp_path / "logs" / "multiruns" / "s"
    slow = [a.replace("limit_train_batches=null", "limit_train_batches=0.15") for a in PRETEND]
    command = ["-m", *slow, "sweep_name=s", "seed=1,3", f"launcher={launcher}"]
    child = start(_command, tmp_path, command)
    deadline = time.monotonic() + 60
    while len(steps(sweep / "0")) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid or 0, number)
    assert status(child) == ended
    assert len(steps(sweep / "0")) < STEPS
    argv = [f"resume={sweep}", "sweep.fail_on_error=true"]
    child = start(_command, tmp_path, argv)
    assert status(child) == 0
    for job in job_folders(sweep):
        assert [line.split()[0] for line in steps(job)] == [str(i) for i in range(STEPS)]
        assert read_manifest(job)["status"] == "finished"


def test_a_job_that_the_cluster_preempts_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    sweep = tmp_path / "logs" / "multiruns" / "s"
    slow = [a.replace("limit_train_batches=null", "limit_train_batches=0.15") for a in PRETEND]
    cluster = ["launcher=slurm", "launcher.executor=local", "launcher.poll_seconds=0.1"]
    child = start(_command, tmp_path, ["-m", *slow, "sweep_name=s", "seed=1", *cluster])
    deadline = time.monotonic() + 60
    while len(steps(sweep / "0")) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(int(steps(sweep / "0")[0].split()[1]), signal.SIGUSR2)  # as Slurm tells submitit's process
    assert status(child) == 0
    lines = [line.split() for line in steps(sweep / "0")]
    assert [line[0] for line in lines] == [str(i) for i in range(STEPS)]
    assert len({line[1] for line in lines}) == 2, "in two submissions"
    assert read_manifest(sweep / "0")["status"] == "finished"


@pytest.mark.parametrize(
    ("things", "jobs", "shares"),
    [
        ("0123", 4, ["0", "1", "2", "3"]),
        ("0123", 2, ["01", "23"]),
        ("01", 4, ["0", "1", "0", "1"]),
        ("012", 2, ["0", "1"]),
        ("", 2, ["", ""]),
    ],
)
def test_devices_are_shared_out(things: str, jobs: int, shares: list[str]) -> None:
    assert ["".join(share(list(things), jobs, place)) for place in range(jobs)] == shares


def test_what_a_user_has_set_for_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cliplab.sweeps.devices.usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert variables(["2", "3"], 2, 1) == {"MKL_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "3"}


def test_a_value_that_only_the_swept_choices_have_reaches_every_job(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("optimizer=sgd,muon", "optimizer.momentum=0.5", "launcher=basic") == 0
    jobs = job_folders(tmp_path / "logs" / "multiruns" / "s")
    found = [yaml.safe_load((job / "composed.yaml").read_text())["optimizer"] for job in jobs]
    assert [(one["_target_"].rpartition(".")[2], one["momentum"]) for one in found] == [("SGD", 0.5), ("Muon", 0.5)]
    assert run("optimizer=sgd,muon", "optimizer.momentum=0.5", "launcher=basic") == 0, "the same command goes on"
    assert len(job_folders(tmp_path / "logs" / "multiruns" / "s")) == 2


def test_more_jobs_than_combinations_is_told(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sweep=random", "sweep.trials=3", "seed=4,5") == 0
    assert "sweep.trials: 3 jobs, and no more than 2 combinations" in capsys.readouterr().out
