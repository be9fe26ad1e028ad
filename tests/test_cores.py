"""How many processes read data."""

import os
from pathlib import Path

import pytest

from cliplab import cores as cores_module
from cliplab import distributed
from cliplab.cores import usable_cores
from cliplab.distributed import worker_processes


@pytest.mark.parametrize(
    ("bound", "quota", "cores"),
    [
        (8, None, 8),
        (8, "max 100000", 8),
        (8, "200000 100000", 2),
        (2, "800000 100000", 2),
        (4, "50000 100000", 1),
        (4, "odd", 4),
    ],
)
def test_cores_are_those_that_may_be_used(
    bound: int, quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)))
    monkeypatch.setattr(cores_module, "CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_cores() == cores


@pytest.mark.parametrize(
    ("asked", "cores", "ranks", "workers"),
    [(None, 16, 1, 4), (None, 2, 1, 2), (None, 1, 1, 1), (None, 8, 4, 2), (None, 2, 8, 1), (0, 16, 1, 0), (7, 2, 1, 7)],
)
def test_workers_follow_the_cores_unless_their_number_is_said(
    asked: int | None, cores: int, ranks: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert worker_processes(asked) == workers
