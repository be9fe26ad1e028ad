"""A sweep that is ended at any moment goes on as one that was not; what a job ended with comes from its folder."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cliplab.runs.outcome import read_manifest, record_end
from cliplab.sweeps.drawing import Grid, Random, Seeds
from cliplab.sweeps.jobs import Job

from .conftest import Killed, Pretended, bowl

RANGE = ["lr=tag(log,interval(1e-5,1e-1))", "width=range(1,9)"]
Sweep = Callable[..., Pretended]


def overrides(folder: Path) -> list[list[str]]:
    jobs = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: int(p.name))
    return [yaml.safe_load((job / "overrides.yaml").read_text()) for job in jobs]


def killing(number: int, value: Callable[[Job], Any] = bowl) -> Callable[[Job], Any]:
    """The command is killed in the ``number``-th job that is waited for."""
    count = itertools.count()
    return lambda job: Killed() if next(count) == number else value(job)


@pytest.mark.parametrize("kill", [0, 1, 4])
@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("make", [Grid(), Random(5), Seeds(5)], ids=lambda m: type(m).__name__)
def test_a_killed_sweep_runs_what_is_left_in_the_same_folders(
    make: Any, slots: int, kill: int, sweep: Sweep, tmp_path: Path
) -> None:
    typed = {Grid: ["fixed=1", "lr=1e-1,1e-2,1e-3,1e-4,1e-5"], Random: RANGE, Seeds: ["lr=1e-3"]}[type(make)]
    value = (lambda job: 0.5) if isinstance(make, Seeds) else bowl
    sweep(make, typed, value, name="whole")
    sweep(make, typed, killing(kill, value), slots=slots)
    again = sweep(make, typed, value, slots=slots)
    assert overrides(tmp_path / "one") == overrides(tmp_path / "whole")
    assert again.ran == [str(i) for i in range(kill, 5)]
    assert sweep(make, typed, value).ran == [], "all is done"


def test_a_grid_may_get_more_values(sweep: Sweep, tmp_path: Path) -> None:
    sweep(Grid(), ["lr=1e-3", "seed=1,2"], bowl_of_seeds := lambda job: 0.5)
    assert sweep(Grid(), ["lr=1e-3", "seed=0,1,2,3"], bowl_of_seeds).ran == ["2", "3"]
    assert [words[1] for words in overrides(tmp_path / "one")] == ["seed=1", "seed=2", "seed=0", "seed=3"]


def test_a_job_that_fails_or_is_no_number_is_failed_and_the_sweep_goes_on(sweep: Sweep, tmp_path: Path) -> None:
    values = {"1": float("nan"), "2": "failed", "3": 0.5, "4": float("inf")}
    ran = sweep(Grid(), ["seed=1,2,3,4"], lambda job: values[job.draw.values["seed"]]).ran
    assert ran == ["0", "1", "2", "3"]
    facts = [read_manifest(tmp_path / "one" / name) for name in ran]
    assert [f["status"] for f in facts] == ["failed", "failed", "finished", "failed"]
    assert facts[0]["error"] == "error: a is nan"
    assert sweep(Grid(), ["seed=1,2,3,4"], lambda job: 0.1).ran == []
    assert sweep(Grid(), ["seed=1,2,3,4"], lambda job: 0.1, retry_failed=True).ran == ["0", "1", "3"]


def test_a_job_that_was_interrupted_alone_is_left_for_the_next_time(sweep: Sweep) -> None:
    stopped = lambda job: "interrupted" if job.name == "1" else 0.5  # noqa: E731
    assert sweep(Grid(), ["seed=1,2,3"], stopped).ran == ["0", "1", "2"]
    assert sweep(Grid(), ["seed=1,2,3"], lambda job: 0.5).ran == ["1"]


def test_a_job_that_had_not_begun_starts_anew_and_one_that_had_goes_on(tmp_path: Path) -> None:
    from cliplab.sweeps.drawing import Draw
    from cliplab.sweeps.jobs import begin

    job = Job(tmp_path / "0", Draw({"seed": "1"}), ("seed=1",), ("hydra.verbose=true",), ("--config-dir=/c",))
    begin(job)
    record_end(job.folder, "running", [])
    (job.folder / "composed.yaml").touch()
    begin(job)
    assert [p.name for p in job.folder.iterdir()] == ["overrides.yaml"]
    start = ["-m", "cliplab", "--config-dir=/c", "seed=1", "hydra.verbose=true", f"hydra.run.dir={job.folder}"]
    assert job.command()[1:] == [*start, "hydra.mode=RUN"]
    (job.folder / "config.yaml").touch()
    begin(job)
    assert job.command()[1:] == ["-m", "cliplab", f"resume={job.folder}"]
