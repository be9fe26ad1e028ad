"""Trackers for real, offline: figures, config, sizes, pictures and files; a resumed run goes on in the same run, and no step
is there twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cliplab.training.loggers import CSVLogger
from cliplab.training.trackers import (
    Kept,
    MlflowRun,
    TensorBoardRun,
    Tracker,
    WandbRun,
    check_reachable,
    plain,
    run_title,
)
from cliplab.training.trackers.tracker import PANELS
from cliplab.training.trackers.wandb_file import PIECE, STEP, last_steps, records, rows

CONFIG = {"name": "emoji", "seed": 1, "optimizer": {"lr": 0.1, "betas": [0.9, 0.98]}, "paths": {"run": "/x"}}
FACTS = {"model/parameters": 12}


def stop_and_resume(make: Callable[[], Any], run: Path, saved: int = 3) -> Any:
    """Steps 0 to 5, a kill before the tracker has the last of them, and from the checkpoint of step ``saved`` on to step 8.

    Returns the second tracker."""
    for first, last, status in ((0, 5, "failed"), (saved + 1, 8, "finished")):
        tracker, table = make(), CSVLogger(str(run))
        assert isinstance(tracker, Tracker)
        tracker.begin(CONFIG, FACTS)
        table.rewind(first - 1)
        tracker.catch_up(table.rows)
        for step in range(first, last + 1):
            for logger in (table, tracker) if step < 5 or last > 5 else (table,):  # the kill comes between the two
                logger.log_metrics({"train/loss": 1.0 / (step + 1), "val/recall@1": 0.5}, step=step)
            panel = Image.new("RGB", (8, 8), (step, 0, 0))
            (run / PANELS).mkdir(parents=True, exist_ok=True)
            panel.save(run / PANELS / f"val-{step:07d}.png")
            if step < 5 or last > 5:
                tracker.show("panel/val", panel, step)
        if last == 8:
            (run / "report.html").write_text("<p>report</p>")
            tracker.attach(run / "report.html")
        tracker.end(status)
        (run / "checkpoints").mkdir(exist_ok=True)
        (run / "checkpoints" / "last.ckpt").touch()
    return tracker


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stop_and_resume(lambda: TensorBoardRun(str(tmp_path)), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("train/loss")] == [
        (step, round(1 / (step + 1), 4)) for step in range(9)
    ]
    assert [e.step for e in events.Images("panel/val")] == list(range(9))
    assert [e.value for e in events.Scalars("model/parameters")] == [12]
    assert "config/text_summary" in events.Tags()["tensors"]


def test_mlflow(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    run = tmp_path / "emoji" / "2026-a"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(f"classes: {['a long name'] * 99}")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = stop_and_resume(lambda: MlflowRun(str(run), "emoji", uri), run)
    client = tracker.experiment
    (found,) = client.search_runs([client.get_experiment_by_name("emoji").experiment_id])
    assert (found.info.run_name, found.info.status) == ("emoji/2026-a", "FINISHED")
    assert found.data.params["optimizer.lr"] == "0.1"
    assert found.data.tags["model/parameters"] == "12"
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert sorted((m.step, round(m.value, 4)) for m in history) == [(s, round(1 / (s + 1), 4)) for s in range(9)]
    assert len(client.get_metric_history(found.info.run_id, "val/recall_at_1")) == 9
    files = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert {"images", "report.html"} <= files
    kept = client.download_artifacts(found.info.run_id, "config.yaml", str(tmp_path))
    assert Path(kept).read_text() == (run / "config.yaml").read_text(), "long values are cut off in the parameters"


@pytest.mark.parametrize("uri", ["./mlruns", "mlruns/", "file:./mlruns"])
def test_mlflow_in_a_folder_is_answered_with_a_database(uri: str, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    with pytest.raises(ValueError, match=r"tracking_uri=sqlite:///(\./)?mlruns\.db$"):
        MlflowRun(str(tmp_path), "emoji", uri)


@pytest.mark.parametrize("saved", [3, 5])
def test_wandb_offline(saved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step of the kill is trained again after a checkpoint of step 3; after one of step 5, metrics.csv and
    the folder of panels alone have it."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "emoji" / "2026-a"
    run.mkdir(parents=True)

    def start() -> WandbRun:
        wandb.teardown()  # a kill ends its service, too, which closes the file
        return WandbRun(str(run), "cliplab", offline=True)

    stop_and_resume(start, run, saved)
    wandb.teardown()
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    ids = {file.stem.removeprefix("run-") for file in files}
    assert ids == {json.loads((run / "trackers.json").read_text())["wandb"]}
    written = [row for file in files for row in rows(file)]
    losses = [(row[STEP], row["train/loss"]) for row in written if "train/loss" in row]
    assert losses == [(step, 1 / (step + 1)) for step in range(9)]
    pictures = [row[STEP] for row in written if "panel/val" in row]
    assert pictures == list(range(9))


def test_records_of_a_file_of_several_blocks_that_a_kill_has_cut(tmp_path: Path) -> None:
    """As LevelDB's format has it: a record of 33,000 bytes is in two pieces, and the 3 bytes before the third block that
    hold no header are zeros."""
    first = 32768 - 7 - 7  # bytes of the first piece, beside the header of the file and its own
    second = 33_000 - first
    third = 32768 - 7 - second - 7 - 3
    content = b":W&B" + bytes(3)
    for kind, piece in ((2, b"a" * first), (4, b"a" * second), (1, b"b" * third)):
        content += PIECE.pack(0, len(piece), kind) + piece
    content += bytes(3) + PIECE.pack(0, 5, 1) + b"c" * 5 + PIECE.pack(0, 5, 1) + b"d" * 4
    (tmp_path / "run.wandb").write_bytes(content)
    assert list(records(tmp_path / "run.wandb")) == [b"a" * 33_000, b"b" * third, b"c" * 5]


def test_figures_of_files_that_were_cleaned_away_are_not_logged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged = {"train/loss": 6, "val/recall@1": 4}
    assert last_steps(tmp_path, "a", logged) == logged
    tracker = WandbRun(str(tmp_path), "cliplab", offline=True, id="a")
    tracker.log_metrics({"train/loss": 1.0}, step=5)
    tracker.end("finished")
    wandb.teardown()
    assert {key: last_steps(tmp_path, "a", logged)[key] for key in logged} == {"train/loss": 5, "val/recall@1": 4}
    (file,) = tmp_path.glob("wandb/offline-run-*/run-a.wandb")
    file.write_bytes(file.read_bytes()[:7])  # killed before a row was written
    assert last_steps(tmp_path, "a", logged) == {"train/loss": -1, "val/recall@1": -1}


def test_the_jobs_of_a_sweep_are_runs_of_their_own_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    ids = []
    for job in ("0", "1"):
        (tmp_path / job).mkdir()
        tracker = WandbRun(str(tmp_path / job), "cliplab", offline=True)
        tracker.begin(CONFIG, FACTS)
        tracker.log_metrics({"train/loss": 1.0}, step=3)
        assert tracker.experiment.step <= 1, "it begins anew"
        ids.append(tracker.experiment.id)
        tracker.end("finished")
        assert len(list((tmp_path / job / "wandb").glob("offline-run-*"))) == 1
    assert len(set(ids)) == 2


def test_a_start_without_a_checkpoint_is_a_new_run(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "mlflow")
    kept.keep("abc")
    assert Kept(tmp_path, "mlflow").id is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert Kept(tmp_path, "mlflow").id == "abc"
    assert Kept(tmp_path, "wandb").id is None


def test_an_evaluation_that_a_kill_cut_off_is_logged_after_all(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,train/loss,zeroshot/toy/acc1\n3,1.0,0.5\n4,0.9,\n5,0.8,\n6,0.")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    Kept(tmp_path, "wandb").keep("a")
    kept = Kept(tmp_path, "wandb")
    assert kept.fresh({"train/loss": 1, "zeroshot/toy/acc1": 1, "reference/toy/x": 1}, 5) == {
        "zeroshot/toy/acc1": 1,
        "reference/toy/x": 1,
    }
    assert kept.fresh({"train/loss": 1, "zeroshot/toy/acc1": 1, "reference/toy/x": 1}, 3) == {}
    assert [kept.is_fresh("panel/toy", step) for step in (3, 4)] == [False, True]


def test_what_trackers_are_told_of_the_config() -> None:
    assert plain(CONFIG) == {"name": "emoji", "seed": 1, "optimizer.lr": 0.1, "optimizer.betas": [0.9, 0.98]}
    assert run_title(Path("/logs/multiruns/night/3")) == "night/3"


def test_a_server_that_does_not_answer_is_told_in_one_line() -> None:
    check_reachable("logger.mlflow", "sqlite:///x.db")
    with pytest.raises(OSError, match=r"logger\.mlflow: http://127\.0\.0\.1:9/ cannot be reached"):
        check_reachable("logger.mlflow", "http://127.0.0.1:9/")
