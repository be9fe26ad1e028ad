"""A run small enough for a test: eight kinds of picture that their captions tell apart, and a tower of one layer."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from cliplab import cli
from tests.commands import exit_status

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (230, 220, 20)}
NAMES = [f"{colour} {shape}" for colour in COLOURS for shape in ("disc", "stripe")]


def picture(kind: int, number: int) -> Image.Image:
    colour, shape = list(COLOURS.values())[kind // 2], kind % 2
    y, x = np.mgrid[:24, :24]
    centre = 9 + number % 6
    inside = (y - centre) ** 2 + (x - centre) ** 2 < 49 if shape == 0 else abs(y - centre) < 4
    return Image.fromarray(np.where(inside[..., None], colour, 255).astype(np.uint8))


def write(folder: Path, split: str, each: int, first: int) -> None:
    rows = [(kind, number) for kind in range(8) for number in range(first, first + each)]
    data = datasets.Dataset.from_dict(
        {
            "image": [picture(*row) for row in rows],
            "caption": [NAMES[kind] for kind, _ in rows],
            "label": [kind for kind, _ in rows],
        },
        features=datasets.Features(
            {"image": datasets.Image(), "caption": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES)}
        ),
    )
    data.to_parquet(folder / f"{split}.parquet")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write(folder, "train", each=6, first=0)
    write(folder, "validation", each=1, first=6)
    return folder


@pytest.fixture
def arguments(shapes: Path) -> list[str]:
    return small_run(shapes)


def small_run(shapes: Path) -> list[str]:
    """Overrides of a run of 3 epochs of 3 steps that takes a second."""
    return [
        "data=local_parquet",
        f"data.path={shapes}",
        "data.batch_size=16",
        "data.num_workers=0",
        "zeroshot=folder",
        f"zeroshot.folder.dataset.path={shapes}",
        "zeroshot.folder.dataset.split=validation",
        "zeroshot.folder.templates=simple",
        "optimized_metric=zeroshot/folder/acc5",
        "model.image_encoder.image_size=16",
        "model.image_encoder.patch_size=8",
        "model.image_encoder.width=32",
        "model.image_encoder.layers=1",
        "model.text_encoder.width=32",
        "model.text_encoder.layers=1",
        "model.embed_dim=16",
        "objective=clip",
        "scheduler.warmup_steps=1",
        "trainer.max_epochs=3",
        "trainer.log_every_n_steps=1",
        "trainer.precision=32-true",
        "trainer.accelerator=cpu",
        "~callbacks.progress",
    ]


def _blank_report(run_dir: Path) -> Path:
    """Stands for the report where a test looks at other things: drawing it takes as long as the small run itself."""
    page = run_dir / "report.html"
    page.write_text("")
    return page


def nothing_but_the_run(patch: pytest.MonkeyPatch, report: bool = False) -> None:
    """No report, and no waiting for the disk."""
    if not report:
        for module in ("assembly.training_results", "assembly.evaluating"):
            patch.setattr(f"cliplab.{module}.write_report", _blank_report)
    patch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def _nothing_but_the_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that looks at the report is marked with it."""
    nothing_but_the_run(monkeypatch, report=request.node.get_closest_marker("report") is not None)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the command in this process with its logs under ``tmp_path``; the exit status comes back."""
    monkeypatch.setenv("CLIPLAB_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> int:
        return exit_status(monkeypatch, *argv)

    return run


@pytest.fixture(scope="session")
def one_epoch(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch, trained once for all tests; ``stopped_run`` gives a test a copy of its own."""
    root = tmp_path_factory.mktemp("one_epoch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPLAB_ROOT", str(root))
        nothing_but_the_run(patch)
        patch.setattr(sys, "argv", ["run.py", *small_run(shapes), "trainer.max_epochs=1"])
        cli.main()
    return only_run(root)


@pytest.fixture
def stopped_run(one_epoch: Path, tmp_path: Path) -> Path:
    """A run that was stopped after one epoch of three steps, where ``command`` would have put it."""
    run = tmp_path / "logs" / "train" / "emoji" / one_epoch.name
    shutil.copytree(one_epoch, run)
    (run / "manifest.json").unlink()
    return run


def only_run(root: Path, task: str = "train") -> Path:
    (found,) = (root / "logs" / task / "emoji").iterdir()
    return found
