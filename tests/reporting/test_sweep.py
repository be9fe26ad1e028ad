"""The page of a sweep: means over seeds, tests with known answers, importance, Pareto front, labels, what failed."""

import csv
import json
import math
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from cliplab.reporting.sweep.importance import groups_of, importances
from cliplab.reporting.sweep.jobs import JobRecord, Metric, pareto_front, settings_of, short_names
from cliplab.reporting.sweep.screen import print_leaderboard
from cliplab.reporting.sweep.spread import spread, t_quantile, two_sided, welch
from cliplab.reporting.sweep.typed import typed_values
from cliplab.reporting.sweep.verdict import Sweep, difference, edges, figure
from cliplab.runs.sweep import metrics_of, summarise

from .toys import fill_job, fill_sweep

METRIC = Metric("val/recall@1")


def job(name: str, value: float, status: str = "finished", **typed: str) -> JobRecord:
    return JobRecord(name, Path(name), status, typed, {"val/recall@1": value, "cost": 10 * value})


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.706), (2, 4.303), (9, 2.262), (30, 2.042), (1e6, 1.960)])
def test_quantiles_of_student(freedom: float, t: float) -> None:
    assert t_quantile(0.05, freedom) == pytest.approx(t, abs=1e-3)
    assert two_sided(t, freedom) == pytest.approx(0.05, abs=1e-4)


def test_interval_of_a_mean() -> None:
    found = spread([1.0, 2.0, 3.0])
    assert found[:3] == (3, 2.0, 1.0)
    assert (found.low, found.high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)
    assert spread([1.0]) == (1, 1.0, None, None, None)
    with pytest.raises(ValueError, match="there are no values"):
        spread([])


def test_interval_of_shares_stays_within_0_and_1() -> None:
    found = spread([0.4, 0.6], share=True)
    wide = 12.7062 * 0.1 / 0.25  # Student's half width, divided by the slope of the logit at 0.5
    assert (found.low, found.high) == pytest.approx((1 / (1 + math.exp(wide)), 1 / (1 + math.exp(-wide))), abs=1e-5)
    near = spread([0.5001, 0.5, 0.4999], share=True)
    assert (near.low, near.high) == pytest.approx(spread([0.5001, 0.5, 0.4999])[3:], abs=1e-7), "as on the plain scale"
    for values in ([0.0, 0.03], [0.97, 1.0], [0.0, 1.0], [1e-9, 0.0], [0.0, 0.0], [1.0, 1.0]):
        low, mean, high = spread(values, share=True).low, sum(values) / 2, spread(values, share=True).high
        assert low is not None
        assert high is not None
        assert 0 <= low <= mean <= high <= 1
    of = {name: settings_of([JobRecord("a", Path(), "finished", {}, {name: 0.5})], Metric(name), [])[0].share for name in (
        "val/recall@7", "zeroshot/x/acc1", "train/image_accuracy", "train/loss", "zeroshot/x/mean_rank"
    )}  # fmt: skip
    assert list(of.values()) == [True, True, True, False, False]


def test_welch_with_a_known_answer() -> None:
    first = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
    second = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 30.5, 24.4]
    assert welch(first, second) == pytest.approx(0.0080719, abs=1e-6)  # as scipy.stats.ttest_ind tells
    assert welch(first, second) == welch(second, first)
    assert welch(first, first) == pytest.approx(1)
    assert welch([1.0, 1.0], [2.0, 2.0]) == 0
    assert welch([1.0, 1.0], [1.0, 1.0]) == 1
    assert welch([1.0], first) is None


def test_importance_of_what_matters_and_of_what_does_not() -> None:
    jobs = [(a, b, seed) for a in "xyz" for b in "pq" for seed in range(3)]
    values = [{"x": 0.0, "y": 1.0, "z": 2.0}[a] + 0.2 * (b == "q") + 0.01 * (seed - 1) for a, b, seed in jobs]
    shares = importances({"a": [j[0] for j in jobs], "b": [j[1] for j in jobs], "n": [str(j[2]) for j in jobs]}, values)
    assert list(shares) == ["a", "b", "n"]
    assert shares["a"] == pytest.approx(0.985, abs=0.005)
    assert shares["b"] == pytest.approx(0.015, abs=0.005)
    assert shares["n"] < 0.001


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ({"a": ["1", "2"]}, [0.1, 0.2]),  # as many groups as jobs
        ({"a": ["1", "1", "2", "2"]}, [0.5] * 4),  # all jobs alike
        ({"a": ["1"] * 4}, [0.5] * 4),
        ({}, [0.1, 0.2]),
        ({}, []),
    ],
)
def test_importance_is_not_told_where_it_cannot_be(columns: dict[str, list[str]], values: list[float]) -> None:
    assert not any(importances(columns, values).values())


def test_a_setting_that_never_changed_explains_nothing() -> None:
    shares = importances({"a": ["1", "1", "2", "2"], "fixed": ["x"] * 4}, [0.0, 0.1, 1.0, 1.1])
    assert shares["fixed"] == 0
    assert shares["a"] > 0.9


def test_many_numbers_are_taken_in_groups_of_neighbours() -> None:
    assert groups_of(["3", "1", "3"]) == [0, 1, 0]
    drawn = groups_of([f"{i / 7}" for i in range(30)])
    assert drawn == sorted(drawn)
    assert set(drawn) == set(range(5))


def test_settings_are_ranked_by_their_mean_over_seeds() -> None:
    jobs = [job(f"{lr}{s}", v + s / 100, lr=lr, seed=str(s)) for lr, v in (("1", 0.2), ("2", 0.4)) for s in (1, 2)]
    jobs += [job("bad", 9.0, "failed", lr="3", seed="1"), job("nan", float("nan"), lr="4", seed="1")]
    best, second = settings_of(jobs, METRIC, ["lr", "seed"])
    assert (best.label, best.figures, second.label) == ("lr=2", pytest.approx([0.41, 0.42]), "lr=1")
    assert [s.label for s in settings_of(jobs, Metric("val/recall@1", False), ["lr", "seed"])] == ["lr=1", "lr=2"]
    assert "more than seeds explain (Welch's t-test, two-sided: p = 0.0012)" in difference([best, second])
    (alone,) = settings_of(jobs[:1], METRIC, [])
    assert difference([alone]) == ""
    assert "repeat both with seed=1,2,3" in difference(settings_of([jobs[0], jobs[2]], METRIC, ["lr"]))


def test_the_edge_of_what_was_tried_is_told() -> None:
    jobs = [job(lr, v, **{"optimizer.lr": lr}) for lr, v in (("1e-4", 0.1), ("1e-3", 0.2), ("1e-2", 0.3))]
    sweep = Sweep("s", [METRIC], jobs, settings_of(jobs, METRIC, ["optimizer.lr"]), ["optimizer.lr"])
    assert edges(sweep) == ["The best optimizer.lr, 1e-2, is the largest that was tried: look above it, too."]


def test_settings_with_the_same_mean_are_equal() -> None:
    jobs = [job(lr, v, lr=lr) for lr, v in (("1", 0.5), ("2", 0.25), ("3", 0.5))]
    settings = settings_of(jobs, METRIC, ["lr"])
    assert difference(settings) == "The best 2 settings have the same mean, so that nothing tells them apart."
    assert edges(Sweep("s", [METRIC], jobs, settings, ["lr"])) == []
    assert difference([settings[0], settings[1]]).startswith("All 2 settings")


def test_labels_use_the_shortest_names() -> None:
    keys = ["optimizer.lr", "model/image_encoder", "model.image_encoder.width", "model.text_encoder.width", "seed"]
    names = ["lr", "image_encoder", "image_encoder.width", "text_encoder.width", "seed"]
    assert short_names(keys) == dict(zip(keys, names, strict=True))
    typed = ["+a.b=1", "~callbacks.progress", "resume=/x", "note='a, b'", "seed=1", "seed=2"]
    assert typed_values(typed) == {"a.b": "1", "callbacks.progress": "null", "note": "a, b", "seed": "2"}


def test_pareto_front() -> None:
    cheap = Metric("cost", False)
    jobs = [job("a", 0.5), JobRecord("b", Path(), "finished", {}, {"val/recall@1": 0.4, "cost": 9.0})]
    jobs += [JobRecord("c", Path(), "finished", {}, {"val/recall@1": 0.3, "cost": 1.0}), job("d", 0.9, "pruned")]
    jobs.append(JobRecord("e", Path(), "finished", {}, {"val/recall@1": 0.6}))
    assert [j.name for j in pareto_front(jobs, [METRIC, cheap])] == ["a", "c"]


@pytest.mark.parametrize(
    "facts",
    [
        {"metrics": [{"name": "a", "direction": "maximize"}, {"name": "b", "direction": "minimize"}]},
        {"metrics": ["a", "b"], "directions": ["maximize", "minimize"]},
        {"metrics": {"a": "maximize", "b": "minimize"}},
        {"metrics": ["a", "b/loss"]},
    ],
)
def test_metrics_of_a_sweep_file(facts: dict[str, object]) -> None:
    assert [metric.maximise for metric in metrics_of(facts)] == [True, False]
    assert metrics_of({"metric": "a", "direction": "minimize"}) == [Metric("a", False)]
    assert metrics_of({}) == []


def test_a_sweep_is_told_from_its_folders_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPLAB_COMMAND", "cliplab")
    folder = fill_sweep(tmp_path / "night")
    page = summarise(folder)
    assert page == folder / "summary.html"
    text = page.read_text()
    for words in ("lr=1e-2 objective=clip", "val/recall@1", "Look here, too.", "1 of 14 jobs did not finish"):
        assert words in text
    assert "&lt;b&gt;too &amp; fast&lt;/b&gt;" in text
    assert "<b>too" not in text
    assert "cliplab experiment=emoji optimizer.lr=1e-1 seed=1" in text
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 12 + ["failed", "pruned"]
    assert (rows[0]["job"], rows[0]["setting"], rows[0]["metric"]) == ("9", "1", "val/recall@1")
    assert float(rows[0]["value"]) == 0.52
    said = capsys.readouterr().out
    assert "night: 14 jobs: 12 finished, 1 failed, 1 pruned" in said
    assert "job 12 failed: <b>too & fast</b>" in said
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"metrics": {"val/recall@1": "maximize", "cost": "minimize"}}))
    summarise(folder)
    assert "Pareto front" in page.read_text()


def test_the_leaderboard_fits_eighty_columns(tmp_path: Path) -> None:
    jobs = [
        job(str(i), i / 100, **{"model.image_encoder.a_long_name": "long_value" * 3, "x": str(i)}) for i in range(40)
    ]
    sweep = Sweep("s", [METRIC], jobs, settings_of(jobs, METRIC, ["model.image_encoder.a_long_name", "x"]), ["x"])
    console = Console(width=80, record=True)
    print_leaderboard(sweep, console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("val/recall@1, higher is better" in line for line in lines)
    assert any("25 more in summary.csv" in line for line in lines)


def test_jobs_of_any_state_have_a_place(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    fill_job(folder / "0", ["seed=1"], float("nan"))
    (folder / "1").mkdir()
    (folder / "2").mkdir()
    (folder / "2" / "overrides.yaml").write_text("[seed=2]")
    fill_job(folder / "3", ["seed=3"], None, "running", pid=2**22 + 1, host="elsewhere", process_started="never")
    (folder / "4").mkdir()
    (folder / "4" / "manifest.json").write_text('{"status": "fail')  # cut by a full disk
    page = summarise(folder)
    assert page is not None
    assert "No job has finished with a figure of val/recall@1." in page.read_text()
    with (folder / "summary.csv").open() as file:
        statuses = {row["job"]: row["status"] for row in csv.DictReader(file)}
    assert statuses == {"0": "finished", "2": "begun", "3": "running", "4": "not started"}


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5000"), (12345.6, "12,346"), (3e9, "3e+09"), (0.00012, "0.00012")]
)
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_pruned_job_shows_what_it_had_reached(tmp_path: Path) -> None:
    folder = fill_sweep(tmp_path / "sweep")
    (folder / "13" / "zeroshot").mkdir()
    line = {
        "set": "val",
        "task": "zeroshot_retrieval",
        "step": 20,
        "metrics": {"recall@1": 0.125, "image_retrieval_recall@1": 0.1},
    }
    (folder / "13" / "zeroshot" / "history.jsonl").write_text(json.dumps(line) + "\n")
    summarise(folder)
    with (folder / "summary.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["job"] == "13"]
    assert (row["status"], row["step"], row["value_step"], row["error"]) == ("pruned", "30", "20", "hopeless")
    assert float(row["value"]) == 0.125
    assert "0.1250 at step 20" in (folder / "summary.html").read_text()


def test_a_failed_job_has_no_figure_of_before_training(tmp_path: Path) -> None:
    folder = fill_sweep(tmp_path / "sweep")
    (folder / "12" / "zeroshot").mkdir()
    line = {"set": "val", "task": "zeroshot_retrieval", "step": 0, "metrics": {"recall@1": 0.875}}
    (folder / "12" / "zeroshot" / "history.jsonl").write_text(json.dumps(line) + "\n")
    facts = json.loads((folder / "12" / "manifest.json").read_text())
    (folder / "12" / "manifest.json").write_text(json.dumps({**facts, "step": 32, "data": {"steps": 40}}))
    summarise(folder)
    page = (folder / "summary.html").read_text()
    assert "0.8750" not in page
    assert "failed at step 32" in page
    with (folder / "summary.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["job"] == "12"]
    assert (row["value"], row["step"]) == ("", "32")
