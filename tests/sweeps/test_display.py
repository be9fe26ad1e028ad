"""The lines that a sweep prints: one for each change, with what is left to do."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cliplab.runs.outcome import record_end
from cliplab.sweeps import display
from cliplab.sweeps.display import Printed
from cliplab.sweeps.drawing import Draw, Ended
from cliplab.sweeps.jobs import Job
from cliplab.sweeps.plan import Plan, directions
from cliplab.sweeps.progress import Progress, read_progress
from cliplab.sweeps.space import read_space


def job(folder: Path, number: int, steps: int = 0, values: dict[int, float] | None = None) -> Job:
    place = folder / str(number)
    place.mkdir(exist_ok=True)
    (place / "manifest.json").write_text(json.dumps({"status": "running", "data": {"steps": 40}}))
    rows = [f"{step},{(values or {}).get(step, '')}" for step in range(steps + 1)]
    (place / "metrics.csv").write_text("\n".join(["step,val/acc", *rows]) + "\n")
    return Job(place, Draw({"optimizer.lr": "0.1"}), ())


def test_progress_is_read_from_what_a_run_writes(tmp_path: Path) -> None:
    job(tmp_path, 0, 30, {0: 0.1, 10: 0.5, 20: 0.4})
    assert read_progress(tmp_path / "0", "val/acc", True) == Progress(30, 40, 0.4, 0.5, 3)
    assert read_progress(tmp_path / "0", "val/acc", False).best == 0.1
    assert read_progress(tmp_path / "0", "other", True) == Progress(30, 40)
    assert read_progress(tmp_path / "1", "val/acc", True) == Progress()
    assert Progress(30, 40).part == 0.75


def test_the_best_is_of_whole_evaluations(tmp_path: Path) -> None:
    metric, other = "zeroshot/a/acc1", "zeroshot/b/acc1"
    (tmp_path / "metrics.csv").write_text(f"step,{metric},{other}\n0,0.9,0.9\n10,0.5,0.5\n20,0.4,0.4\n")
    (tmp_path / "zeroshot").mkdir()
    lines: list[dict[str, Any]] = [
        {"set": name, "step": step, "subset": "8 of 80 images" if (name, step) in parts else None}
        for parts in [{("a", 0), ("b", 0), ("b", 10), ("b", 20)}]
        for step in (0, 10, 20)
        for name in "ab"
    ]
    known = {"task": "zeroshot_classification", "metrics": {"acc1": 0.9}}
    history = "".join(json.dumps(line | known) + "\n" for line in lines)
    (tmp_path / "zeroshot" / "history.jsonl").write_text(history)
    assert read_progress(tmp_path, metric, True) == Progress(20, None, 0.4, 0.5, 3)
    assert read_progress(tmp_path, other, True) == Progress(20, None, 0.4, None, 3)
    (tmp_path / "zeroshot" / "history.jsonl").write_text(history + '{"set": "a')
    assert read_progress(tmp_path, metric, True).best == 0.5, "a line that is being written"


def test_a_line_for_each_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(display.time, "monotonic", lambda: now)
    facts: dict[str, Any] = {"metric": ["val/acc"], "direction": ["maximize"]}
    lines = Printed(Plan(tmp_path, read_space([], {}), {}, facts), total=4, slots=1)
    lines.begin()
    lines.started(job(tmp_path, 0))
    now = 30.0
    job(tmp_path, 0, 10, {10: 0.25})
    lines.moved()
    job(tmp_path, 0, 15, {10: 0.25})
    lines.moved()
    now = 120.0
    lines.ended(job(tmp_path, 0, 40, {10: 0.25, 40: 0.5}), Ended("finished", (0.5,)))
    failed = job(tmp_path, 1, 2, {2: 0.9})
    lines.started(failed)
    record_end(failed.folder, "failed", [], error="error: no")
    now = 121.0
    lines.ended(failed, Ended("failed"))
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "4 jobs, compared by val/acc, higher is better",
        "job 0 started  lr=0.1",
        "job 0 running  step 10/40, acc 0.2500, best 0.2500  about 8 min left",
        "job 0 finished in 2 min  step 40/40, acc 0.5000  lr=0.1",
        "    1 of 4 jobs; best 0.5000 (job 0); about 6 min left",
        "job 1 started  lr=0.1",
        "job 1 failed in 1 s  step 2/40  lr=0.1",
        "    2 of 4 jobs, 1 failed; best 0.5000 (job 0); about 4 min left",
    ]
    assert said.err == "job 1: error: no\n"


def test_a_job_that_did_not_log_the_metric_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts: dict[str, Any] = {"metric": ["val/nope"], "direction": ["maximize"]}
    lines = Printed(Plan(tmp_path, read_space([], {}), {}, facts), total=1, slots=1)
    done = job(tmp_path, 0, 40, {40: 0.5})
    lines.started(done)
    record_end(done.folder, "finished", [], final={"val/acc": 0.5})
    lines.ended(done, Ended("finished"))
    told = "sweep.metric: val/nope was not logged, so that this job is not compared; it logged val/acc"
    assert capsys.readouterr().err == f"job 0: {told}\n"


def test_lines_fit_eighty_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts: dict[str, Any] = {"metric": ["zeroshot/emoji_compositions/acc1"], "direction": ["maximize"]}
    lines = Printed(Plan(tmp_path, read_space([], {}), {}, facts), total=1000, slots=1)
    drawn = {
        "optimizer.lr": "0.00010781949511813341",
        **{f"model.image_encoder.key{i}": "0.93509002" for i in range(5)},
    }
    long = replace(job(tmp_path, 0, 40, {40: 0.5}), draw=Draw(drawn))
    assert long.label.startswith("lr=0.0001078 key0=0.9351 key1=0.9351")
    lines.started(long)
    lines.ended(long, Ended("finished", (0.5,)))
    lines.skipped(long, Ended("finished", (0.5,)))
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


def test_a_loss_is_minimized_unless_said_otherwise() -> None:
    assert directions(["val/recall@1", "train/loss", "zeroshot/x/mean_rank"], None) == [
        "maximize",
        "minimize",
        "minimize",
    ]
    assert directions(["a", "b"], "minimize") == ["minimize", "minimize"]
