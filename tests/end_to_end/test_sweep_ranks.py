"""A sweep whose jobs have two ranks each: both train the same in one folder, and no process is left behind.

Processes are forked from a server that has everything imported, in place of new interpreters.
"""

import json
import multiprocessing
import os
import signal
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from lightning.fabric.strategies.launchers import subprocess_script as of_fabric
from lightning.pytorch.strategies.launchers import subprocess_script as of_trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from cliplab import cli
from cliplab.runs.outcome import job_folders, read_manifest
from cliplab.sweeps.launchers import process
from cliplab.training.module import TrainingModule
from tests.processes import start, status

from .conftest import nothing_but_the_run


class Forked:
    """Stands for ``subprocess.Popen`` of a command of cliplab."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], start_new_session: bool = False, **_: Any
    ) -> None:
        arguments = command[3:] if command[1] == "-m" else command[2:]
        self.child = start(_command, list(arguments), dict(env), start_new_session)

    @property
    def pid(self) -> int:
        assert self.child.pid is not None
        return self.child.pid

    def poll(self) -> int | None:
        return self.child.exitcode

    returncode = property(poll)

    def wait(self) -> int | None:
        return status(self.child)

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _command(arguments: list[str], env: dict[str, str], own_session: bool) -> None:
    """The command in a forked process, which notes the rate of each of its steps."""
    if own_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(env)
    GlobalHydra.instance().clear()  # a second rank is forked from the first, in the midst of its command
    rank = os.environ.get("LOCAL_RANK", "0")
    rank_zero_only.rank = int(rank)  # noted when it was imported, in the server
    root = Path(os.environ["CLIPLAB_ROOT"])
    os.chdir(root)
    nothing_but_the_run(pytest.MonkeyPatch())
    _start_ranks_forked()
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    clamp = TrainingModule.on_train_batch_end

    def noting(self: TrainingModule, *of_step: Any) -> None:
        clamp(self, *of_step)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        with (root / "steps").open("a") as file:
            row = [self.trainer.default_root_dir, str(self.global_rank), os.getpid(), self.global_step, rate]
            file.write(json.dumps(row) + "\n")

    if clamp.__name__ != noting.__name__:  # else the first rank's
        TrainingModule.on_train_batch_end = noting  # type: ignore[method-assign]
    sys.argv = ["run.py", *arguments]
    cli.main()


def _start_ranks_forked(patch: Callable[..., None] = setattr) -> None:
    for module in (of_fabric, of_trainer, process):
        patch(module, "subprocess", types.SimpleNamespace(Popen=Forked, DEVNULL=None, STDOUT=None))


def test_both_ranks_of_each_job_train_the_same_and_none_is_left(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _start_ranks_forked(monkeypatch.setattr)
    kept = [a for a in arguments if not a.startswith(("trainer.accelerator", "optimizer.lr", "trainer.max_epochs"))]
    kept += ["trainer=ddp_sim", "trainer.max_epochs=1", "sweep_name=s", "sweep=random", "sweep.trials=3"]
    assert command("-m", *kept, "sweep.seed=null", "optimizer.lr=interval(1e-4,1e-2)") == 0
    jobs = job_folders(tmp_path / "logs" / "multiruns" / "s")
    assert [read_manifest(job)["status"] for job in jobs] == ["finished"] * 3
    steps = [json.loads(line) for line in (tmp_path / "steps").read_text().splitlines()]
    rates: dict[str, dict[str, list[float]]] = {}
    for folder, rank, _, _, rate in steps:
        rates.setdefault(folder, {}).setdefault(rank, []).append(rate)
    assert sorted(rates) == list(map(str, jobs)), "no other folder"
    for of_ranks in rates.values():
        assert len(of_ranks["0"]) == 3
        assert of_ranks["0"] == of_ranks["1"]
    assert len({of_ranks["0"][0] for of_ranks in rates.values()}) == 3, "each job draws its own"
    processes = {pid for _, _, pid, _, _ in steps}
    assert len(processes) == 6
    for pid in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
