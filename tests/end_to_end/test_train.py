"""A whole run: its folder, its evaluation again, its report again."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cliplab

from .conftest import only_run


@pytest.mark.report
def test_run_folder_is_complete_and_evaluate_repeats_its_figures(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == 0
    run = only_run(tmp_path)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert {"git", "versions", "hardware", "seed", "started", "finished", "data", "command"} <= set(manifest)
    assert manifest["data"]["samples"] == 48
    assert yaml.safe_load((run / "config.yaml").read_text())["optimizer"]["lr"] == 2e-3
    assert "trainer.max_epochs=3" in yaml.safe_load((run / "overrides.yaml").read_text())

    history = [json.loads(line) for line in (run / "zeroshot" / "history.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["step"], line["samples_seen"]) for line in history] == [
        (0, 0, 0),
        (1, 3, 48),
        (2, 6, 96),
        (3, 9, 144),
    ]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(i) for i in range(10)]
    logged = {"loss", "image_accuracy", "text_accuracy", "logit_scale", "lr", "grad_norm"}
    logged |= {"images_per_second", "tokens_per_second"}
    for row in rows[1:]:
        assert all(row[f"train/{key}"] for key in logged)
    assert float(rows[9]["zeroshot/folder/acc1"]) == history[3]["metrics"]["acc1"]

    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 9
    result = json.loads((run / "results" / "folder.json").read_text())
    assert [type(result[key]) for key in ("dataset", "model", "pretrained", "task", "language")] == [str] * 5
    page = (run / "report.html").read_text()
    assert f"{100 * result['metrics']['acc1']:.1f} %" in page

    assert command("task=evaluate", f"ckpt={run}/checkpoints/last.ckpt") == 0
    again = only_run(tmp_path, "evaluate")
    assert json.loads((again / "results" / "folder.json").read_text())["metrics"] == result["metrics"]
    capsys.readouterr()

    (run / "report.html").unlink()
    assert command("task=report", f"run={run}") == 0
    assert (run / "report.html").read_text() == page
    assert capsys.readouterr().out.strip().endswith("report.html")

    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    assert command(f"resume={run}") == 0
    assert "finished" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before


def test_results_name_the_model_of_the_last_checkpoint(one_epoch: Path) -> None:
    """By the fingerprint that task=evaluate writes, which builds the model from the checkpoint."""
    expected = cliplab.load(str(one_epoch)).fingerprint
    results = [json.loads(file.read_text()) for file in (one_epoch / "results").glob("*.json")]
    assert results
    assert {result["model_fingerprint"] for result in results} == {expected}


def test_it_learns(command: Callable[..., int], arguments: list[str], tmp_path: Path) -> None:
    rarely = ["callbacks.evaluation.every_n_epochs=60", "callbacks.checkpoint.every_n_epochs=60", "callbacks.best=null"]
    rarely.append("trainer.log_every_n_steps=60")
    assert command(*arguments, "trainer.max_epochs=60", *rarely) == 0
    metrics = json.loads((only_run(tmp_path) / "results" / "folder.json").read_text())["metrics"]
    assert metrics["acc1"] >= 0.75  # chance is 0.125


def test_checkpoint_and_early_stopping_can_follow_a_zero_shot_set(
    command: Callable[..., int], arguments: list[str], tmp_path: Path
) -> None:
    status = command(
        *arguments,
        "callbacks=early_stopping",
        "callbacks.early_stopping.monitor=zeroshot/folder/acc1",
        "callbacks.early_stopping.min_delta=2",  # nothing can rise by that much
        "callbacks.early_stopping.patience=1",
        "callbacks.best.monitor=zeroshot/folder/acc1",
        "callbacks.evaluation.panel_images=5",
        "logger=tensorboard",
        "trainer.max_epochs=9",
    )
    assert status == 0
    run = only_run(tmp_path)
    assert (run / "checkpoints" / "best.ckpt").is_file()
    panels = sorted((run / "zeroshot" / "panel").iterdir())
    assert [panel.name for panel in panels] == [f"folder-{step:07d}.png" for step in (0, 3, 6)]
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    with (run / "metrics.csv").open() as file:
        name = "zeroshot/folder/acc1"
        logged = {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}
    assert {point.step: point.value for point in events.Scalars(name)} == pytest.approx(logged)
    assert {image.step for image in events.Images("panel/folder")} == set(logged) == {0, 3, 6}
    history = (only_run(tmp_path) / "zeroshot" / "history.jsonl").read_text().splitlines()
    assert json.loads(history[-1])["epoch"] == 2


@pytest.mark.report
def test_the_best_checkpoint_holds_the_weights_that_were_evaluated(
    command: Callable[..., int], arguments: list[str], tmp_path: Path
) -> None:
    """Evaluations in the middle of epochs, of a model that writes captions and is compared by their likelihood."""
    chosen = [
        "objective=caption",
        "callbacks.evaluation.every_n_steps=2",
        "callbacks.best.monitor=zeroshot/folder/acc1",
    ]
    assert command(*arguments, *chosen, "optimizer=adamw", "optimizer.lr=3e-3") == 0
    run = only_run(tmp_path)
    rows = [json.loads(line) for line in (run / "zeroshot" / "history.jsonl").read_text().splitlines()]
    accuracy = {row["step"]: row["metrics"]["acc1"] for row in rows if row["step"]}
    assert list(accuracy) == [2, 4, 6, 8, 9]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == max(accuracy, key=lambda step: accuracy[step])
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    scores = [float(x["best_model_score"]) for x in last["callbacks"].values() if x.get("best_model_score") is not None]
    assert scores == [pytest.approx(max(accuracy.values()))]


def test_several_checkpoints_give_one_comparison(
    one_epoch: Path, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = tmp_path / "run"
    shutil.copytree(one_epoch, finished)
    files = [str(finished / "checkpoints" / f"{name}.ckpt") for name in ("last", "copy")]
    shutil.copy(*files)
    assert command("task=evaluate", f"ckpt=[{','.join(files)}]") == 0
    out = only_run(tmp_path, "evaluate")
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["1-last", "2-copy"]
    record = json.loads((out / "comparison.json").read_text())
    assert [run["checkpoint"] for run in record["runs"]] == files
    assert record["sets"][0]["rows"][1]["difference"]["p_value"] == 1
    assert capsys.readouterr().out.strip().endswith("comparison.html")

    page = (out / "comparison.html").read_text()
    (out / "comparison.html").unlink()
    assert command("task=report", f"run={out}") == 0
    assert (out / "comparison.html").read_text() == page

    assert command("task=compare", f"run=[{finished},{out}/2-copy]") == 0
    record = json.loads((only_run(tmp_path, "compare") / "comparison.json").read_text())
    assert [run["label"] for run in record["runs"]] == ["emoji last", "emoji copy"]

    assert command("task=evaluate", f"ckpt=[{files[0]},{tmp_path}/none.ckpt]") == 1
    assert command("task=compare", f"run={finished}") == 1
    said = capsys.readouterr().err
    assert "none.ckpt is neither a file nor a folder" in said
    assert "two run folders or more" in said
