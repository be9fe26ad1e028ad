"""Searches with Optuna: a study in the sweep's folder or in a shared database, told what the folders say."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cliplab.sweeps import conductor, jobs
from cliplab.sweeps.drawing import Grid
from cliplab.sweeps.jobs import Job
from cliplab.sweeps.search import Search
from cliplab.sweeps.space import SpaceError

from .conftest import Killed, Pretended, bowl
from .test_conductor import RANGE, killing, overrides

optuna = pytest.importorskip("optuna")
Sweep = Callable[..., Pretended]


def tpe(trials: int) -> Search:
    return Search(trials, partial(optuna.samplers.TPESampler, n_startup_trials=4, multivariate=True, group=True))


def study(folder: Path) -> Any:
    from cliplab.study import open_storage

    return optuna.load_study(study_name="s", storage=open_storage(str(folder / "study.journal")))


@pytest.mark.parametrize("kill", [0, 3, 7])
def test_a_killed_search_chooses_what_one_never_killed_chooses(kill: int, sweep: Sweep, tmp_path: Path) -> None:
    sweep(tpe(9), RANGE, bowl, name="whole")
    sweep(tpe(9), RANGE, killing(kill))
    again = sweep(tpe(9), RANGE, bowl)
    assert overrides(tmp_path / "one") == overrides(tmp_path / "whole")
    assert again.ran == [str(i) for i in range(kill, 9)], "the interrupted trial in its own folder"
    one, whole = study(tmp_path / "one"), study(tmp_path / "whole")
    assert [t.values for t in one.trials] == [t.values for t in whole.trials]
    assert one.best_value > -1.5
    assert sweep(tpe(9), RANGE, bowl).ran == []
    assert sweep(tpe(10), RANGE, bowl).ran == ["9"], "more trials may be asked for later"
    assert len(study(tmp_path / "one").trials) == 10


@pytest.mark.parametrize("moment", ["folder made", "overrides written", "trial told", "overrides cut"])
@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("method", [tpe(5), Grid()], ids=["search", "grid"])
def test_a_kill_while_a_job_is_being_begun_leaves_no_other_folder(
    method: Any, number: int, moment: str, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["lr=1e-1,1e-2,1e-3,1e-4,1e-5"] if isinstance(method, Grid) else RANGE
    sweep(method, typed, bowl, name="whole")

    def begin_and_die(job: Job) -> None:
        if job.name != str(number):
            jobs.begin(job)
            return
        job.folder.mkdir()
        if moment != "folder made":
            jobs.begin(job)
            if moment == "trial told":
                job.draw.token and job.draw.token.set_user_attr("cliplab_sweep", "one")  # type: ignore[attr-defined]
            if moment == "overrides cut":
                (job.folder / "overrides.yaml").rename(job.folder / "overrides.yaml.part")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(conductor, "begin", begin_and_die)
        sweep(method, typed, bowl)
    again = sweep(method, typed, bowl)
    assert again.ran == [str(i) for i in range(number, 5)]
    assert overrides(tmp_path / "one") == overrides(tmp_path / "whole")


def test_trials_with_the_same_values_have_folders_of_their_own(sweep: Sweep) -> None:
    assert sweep(tpe(4), ["lr=1e-3,1e-3"], bowl).ran == ["0", "1", "2", "3"]
    assert sweep(tpe(6), ["lr=1e-3,1e-3"], bowl).ran == ["4", "5"]


def test_what_jobs_end_with_is_what_the_study_is_told(sweep: Sweep, tmp_path: Path) -> None:
    ends: list[Any] = [float("nan"), "failed", "pruned", 0.5, float("inf")]
    sweep(tpe(5), RANGE, lambda job: ends[int(job.name)], slots=2)
    states = [t.state.name for t in study(tmp_path / "one").trials]
    assert states == ["FAIL", "FAIL", "PRUNED", "COMPLETE", "FAIL"]


def test_several_metrics_give_a_front(sweep: Sweep, tmp_path: Path) -> None:
    def two(job: Job) -> list[float]:
        width = float(job.draw.values["width"])
        return [width, -width]

    sweep(tpe(6), RANGE, two, metric=("a", "b"))
    found = study(tmp_path / "one")
    assert [d.name for d in found.directions] == ["MAXIMIZE", "MAXIMIZE"]
    assert len(found.best_trials) == 6, "none is worse in both"
    with pytest.raises(
        SpaceError, match=r"the study s was begun with maximize, maximize, and now it is minimize, minimize"
    ):
        sweep(tpe(6), RANGE, two, metric=("a", "b"), direction="minimize")


def test_two_sweeps_share_a_study_and_each_goes_on_with_its_own_trials(sweep: Sweep, tmp_path: Path) -> None:
    storage = str(tmp_path / "shared.journal")
    sweep(tpe(6), RANGE, killing(2), storage=storage)
    assert sweep(tpe(6), RANGE, bowl, storage=storage, name="two").ran == ["0", "1", "2"], (
        "the killed one's is not touched"
    )
    assert sweep(tpe(6), RANGE, bowl, storage=storage).ran == ["2"]


def test_conditions_and_groups_are_searched(sweep: Sweep, tmp_path: Path) -> None:
    typed = [
        "optimizer=adamw,sgd",
        "momentum=tag('optimizer=sgd',interval(0.8,0.99))",
        "lr=tag(log,interval(1e-4,1e-2))",
    ]
    sweep(tpe(12), typed, lambda job: float(job.draw.values["lr"]))
    rows = overrides(tmp_path / "one")
    assert {row[0] for row in rows} == {"optimizer=adamw", "optimizer=sgd"}
    assert all(any(w.startswith("momentum=") for w in row) == (row[0] == "optimizer=sgd") for row in rows)
    with pytest.raises(SpaceError, match="was begun with other choices"):
        sweep(tpe(13), ["optimizer=adamw,muon"], lambda job: 0.5)


def test_a_journal_that_was_cut_off_is_read_and_written_again(sweep: Sweep, tmp_path: Path) -> None:
    sweep(tpe(3), RANGE, bowl)
    journal = tmp_path / "one" / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')
    assert sweep(tpe(4), RANGE, bowl).ran == ["3"]
    assert len(study(tmp_path / "one").trials) == 4


def test_a_search_in_which_nothing_is_varied_says_so(sweep: Sweep) -> None:
    with pytest.raises(SpaceError, match="nothing is varied"):
        sweep(tpe(3), ["lr=1"], bowl)
