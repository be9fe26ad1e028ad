"""Runs killed by SIGKILL, on one and two ranks, by row and streaming, end as one that was never killed."""

import csv
import functools
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from cliplab import cli
from cliplab.cli.job import RANK_VARIABLES
from cliplab.training.module import TrainingModule
from tests.processes import start, status

from .conftest import nothing_but_the_run, small_run

WALL_CLOCK = ("train/images_per_second", "train/tokens_per_second")
STEPS = 9


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _command(root: Path, argv: list[str], rank: int, ranks: int, port: int, kill_at: int | None) -> None:
    """What one rank does: the command, noting which samples it saw at which step."""
    os.environ |= {"CLIPLAB_ROOT": str(root), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    if ranks == 1:
        for name in RANK_VARIABLES:
            os.environ.pop(name, None)
    os.chdir(root)
    rank_zero_only.rank = rank  # noted when it was imported, in the server
    nothing_but_the_run(pytest.MonkeyPatch())
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for the workers that load data, as in a run from the shell
    clamp = TrainingModule.on_train_batch_end

    def noting(self: TrainingModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        clamp(self, outputs, batch, batch_idx)
        with (root / f"seen-{rank}-of-{ranks}").open("a") as file:
            file.write(json.dumps([self.global_step, batch.epochs.tolist(), batch.indices.tolist()]) + "\n")
        if self.global_step == kill_at and rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    TrainingModule.on_train_batch_end = noting  # type: ignore[method-assign]
    sys.argv = ["run.py", *argv]
    if not any(a.startswith("resume=") for a in argv):  # as one rank tells the others
        sys.argv += [f"hydra.run.dir={root}/run", f"paths.run={root}/run"]
    cli.main()


def train(root: Path, argv: list[str], ranks: int = 1, kill_at: int | None = None) -> list[int | None]:
    """The command on ``ranks`` processes; their statuses. The first kills itself at the end of step ``kill_at``, and then
    the others are killed."""
    port = _free_port()
    children = [start(_command, root, argv, rank, ranks, port, kill_at) for rank in range(ranks)]
    statuses = [status(children[0])]
    for child in children[1:]:
        if statuses[0] != 0:
            child.kill()
        statuses.append(status(child))
    return statuses


def samples(root: Path, ranks: str = "*") -> dict[int, list[Any]]:
    """By step the (epoch, index) of the global batch, as last seen by so many ranks."""
    found: dict[int, dict[str, Any]] = {}
    for file in sorted(root.glob(f"seen-*-of-{ranks}")):
        for step, epochs, indices in map(json.loads, file.read_text().splitlines()):
            found.setdefault(step, {})[file.name] = list(zip(epochs, indices, strict=True))
    return {step: [pair for name in sorted(parts) for pair in parts[name]] for step, parts in found.items()}


def outcome(root: Path) -> dict[str, Any]:
    run = root / "run"
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    with (run / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in csv.DictReader(file)]
    history = [json.loads(line) for line in (run / "zeroshot" / "history.jsonl").read_text().splitlines()]
    history = [{k: v for k, v in line.items() if k != "seconds"} for line in history]
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")} | {
        "rows": rows,
        "history": history,
        "data": checkpoint["CaptionDataModule"],
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def options(arguments: list[str], ranks: int, streaming: bool) -> list[str]:
    kept = [a for a in arguments if not a.startswith(("trainer.accelerator", "data.num_workers", "trainer.log_every"))]
    trainer = ["trainer=ddp_sim", f"trainer.devices={ranks}", "trainer.log_every_n_steps=1"]
    stream = ["data.streaming=true", "data.samples_per_epoch=48", "data.train.shuffle_buffer=7"] if streaming else []
    drawing = ["model.image_encoder.patch_dropout=0.5", "data.num_workers=2"]
    return [*kept, *trainer, *stream, *drawing, "callbacks.checkpoint.every_n_train_steps=2"]


@pytest.fixture(scope="module")
def never_killed(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool, int], Path]:
    """Where the run on so many ranks, streaming or not, was trained, once for all tests."""

    @functools.cache
    def trained(streaming: bool, ranks: int) -> Path:
        root = tmp_path_factory.mktemp("whole")
        assert train(root, options(small_run(shapes), ranks, streaming), ranks) == [0] * ranks
        return root

    return trained


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("streaming", [False, True], ids=["rows", "stream"])
def test_killed_runs_end_as_one_never_killed(
    streaming: bool, ranks: int, never_killed: Callable[[bool, int], Path], arguments: list[str], tmp_path: Path
) -> None:
    argv = options(arguments, ranks, streaming)
    kills = sorted(np.random.default_rng(ranks + 2 * streaming).choice(np.arange(1, STEPS), 2, replace=False))
    for kill, workers in zip(kills, (2, 1), strict=True):
        assert train(tmp_path, [*argv, f"data.num_workers={workers}"], ranks, kill)[0] == -signal.SIGKILL
        argv = [f"resume={tmp_path}/run"]
    assert train(tmp_path, [*argv, "data.num_workers=0"], ranks) == [0] * ranks
    root = never_killed(streaming, ranks)
    whole, killed = outcome(root), outcome(tmp_path)
    assert [row["step"] for row in killed["rows"]] == [str(i) for i in range(STEPS + 1)]
    for key, value in whole.items():
        assert same(value, killed[key]), key
    assert samples(tmp_path) == samples(root)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_on_another_number_of_ranks_each_sample_comes_once(
    before: int, after: int, never_killed: Callable[[bool, int], Path], arguments: list[str], tmp_path: Path
) -> None:
    argv, run = options(arguments, before, streaming=False), tmp_path / "run"
    assert train(tmp_path, argv, before, kill_at=5)[0] == -signal.SIGKILL
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4, "in an epoch's middle"
    assert train(tmp_path, [f"resume={run}", f"trainer.devices={after}"], after) == [0] * after
    first, rest = samples(tmp_path, f"{before}"), samples(tmp_path, f"{after}")
    assert list(rest) == list(range(5, STEPS + 1)), "from the very next step on"
    assert sorted(first[5]) == sorted(rest[5]), "the same global batch"
    seen = {step: (first if step < 5 else rest)[step] for step in range(1, STEPS + 1)}
    assert sorted(pair for pairs in seen.values() for pair in pairs) == [
        (epoch, index) for epoch in range(3) for index in range(48)
    ]
    assert seen == samples(never_killed(False, 1)), "as on one rank"
    rows = outcome(tmp_path)["rows"]
    assert [row["step"] for row in rows] == [str(i) for i in range(STEPS + 1)]
    assert float(rows[-1]["data/samples"]) == 3 * 48
