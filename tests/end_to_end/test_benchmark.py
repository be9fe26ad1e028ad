"""The loader's benchmark: it compares like with like, and writes what it measured."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cliplab.benchmarks.loader import STAGES, Ours, Torchvision, photograph
from cliplab.data.images import decode_image
from cliplab.data.transforms import TrainTransform

from .conftest import only_run


def test_both_pipelines_give_the_same_picture_within_a_grey_level() -> None:
    transform = TrainTransform(48, scale=(1, 1), ratio=(4 / 3, 4 / 3))
    ours, theirs = Ours(transform), Torchvision(transform)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    for number in range(3):
        data = photograph(number, 200, 150)
        a = ours.resize(ours.decode(data), number).float()
        b = (theirs.resize(theirs.decode(data), number) * std + mean) * 255
        assert (a - b).abs().max() < 1.01


def test_photographs_made_are_like_photographs() -> None:
    sizes = [len(photograph(i, 500, 375)) for i in range(4)]
    assert all(40_000 < size < 120_000 for size in sizes)
    pixels = np.asarray(decode_image(photograph(0, 500, 375))).astype(float)
    assert pixels.std() > 30
    assert np.abs(np.diff(pixels, axis=1)).mean() < 20, "neighbours are alike"
    assert photograph(3, 60, 40) == photograph(3, 60, 40) != photograph(4, 60, 40)


SMALL = ["task=benchmark", "benchmark=loader", "benchmark.rounds=2", "benchmark.batch_size=4", "benchmark.workers=1"]


@pytest.mark.parametrize("files", ["made", "folder", "data"])
def test_command(
    files: str, command: Callable[..., int], shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(5):
        (tmp_path / f"{i}.jpg").write_bytes(photograph(i, 60, 40))
    source = {
        "made": ["benchmark.images=5", "benchmark.width=60", "benchmark.height=40"],
        "folder": [f"benchmark.path={tmp_path}"],
        "data": ["benchmark.from_data=true", "benchmark.images=5", "data=local_parquet", f"data.path={shapes}"],
    }[files]
    assert command(*SMALL, "benchmark.transform.image_size=16", "benchmark.transform.flip=0.5", *source) == 0
    run = only_run(tmp_path, "benchmark")
    measured = json.loads((run / "benchmark.json").read_text())
    assert [row["stage"].split(",")[0] for row in measured["rows"][:5]] == [*STAGES, "all"]
    assert all(row["ours"] > 0 and row["torchvision"] > 0 for row in measured["rows"])
    assert measured["facts"]["pictures"] == 5
    assert len(measured["facts"]["rounds"]["total"]["ours"]) == 2
    assert capsys.readouterr().out.strip().endswith(str(run / "benchmark.json"))


def test_zero_shot_classifier_beside_open_clips(command: Callable[..., int], tmp_path: Path) -> None:
    small = ["benchmark.classes=3", "benchmark.templates=2", "benchmark.rounds=2", "benchmark.precision=fp32"]
    assert command("task=benchmark", "benchmark=zero_shot", "benchmark.threads=1", *small) == 0
    measured = json.loads((only_run(tmp_path, "benchmark") / "benchmark.json").read_text())
    names = [row["builder"] for row in measured["rows"]]
    assert names == ["open_clip", "cliplab", "cliplab, later evaluations"]
    assert all(row["seconds"] > 0 and row["largest difference"] < 1e-5 for row in measured["rows"])
    assert len(measured["facts"]["rounds"]) == 2
    assert "times as fast as open_clip's builder (median of 2 rounds)" in measured["summary"]


def test_mistakes(command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("task=benchmark") == 1
    assert "choose what to measure" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert command(*SMALL, f"benchmark.path={tmp_path}/empty") == 1
    assert "holds no pictures" in capsys.readouterr().err
    small = ["benchmark.images=3", "benchmark.width=20", "benchmark.height=20", "benchmark.transform.image_size=16"]
    assert command(*SMALL, *small, "benchmark.workers=0") == 1
    assert "benchmark.workers" in capsys.readouterr().err
    assert command("task=benchmark", "benchmark=zero_shot", "benchmark.precision=fp8") == 1
    assert "benchmark.precision: 'fp8' is not a choice; the choices are bf16, fp32" in capsys.readouterr().err
    assert command("task=benchmark", "benchmark=zero_shot", "benchmark.rounds=0") == 1
    assert "benchmark.rounds: 0 must be 1 or more" in capsys.readouterr().err
