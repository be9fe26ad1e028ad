"""Two processes on a CPU train to what one process does."""

import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cliplab import cli
from tests.processes import start, status

from .conftest import nothing_but_the_run, only_run

SAME = ("train/loss", "train/logit_scale", "train/grad_norm", "train/lr")


def _first_rank(folder: Path, argv: list[str]) -> None:
    os.environ |= {"CLIPLAB_ROOT": str(folder / "2"), "OMP_NUM_THREADS": "1"}
    os.chdir(folder)
    torch.set_num_threads(1)
    nothing_but_the_run(pytest.MonkeyPatch())
    sys.argv = ["run.py", *argv]
    cli.main()


def rows(root: Path) -> list[dict[str, str]]:
    with (only_run(root) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_ranks_log_and_evaluate_what_one_does(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rank is started by the command itself, as from a shell."""
    (tmp_path / "run.py").write_text("from cliplab.cli import main\n\nmain()\n")
    locked = ["locking=text_projection", "locking.text_encoder.unfreeze_at_step=4"]  # new gradients are exchanged
    locked += ["optimizer=adamw"]  # on cores with bf16 Muon rounds to it, which lifts last bits above 1e-4
    two_ranks = [a for a in arguments if a != "trainer.accelerator=cpu"] + ["trainer=ddp_sim"]
    assert status(start(_first_rank, tmp_path, [*two_ranks, *locked])) == 0
    monkeypatch.setenv("CLIPLAB_ROOT", str(tmp_path / "1"))
    assert command(*arguments, *locked) == 0
    one, two = rows(tmp_path / "1"), rows(tmp_path / "2")
    assert [row["step"] for row in two] == [row["step"] for row in one] == [str(i) for i in range(10)]
    for a, b in zip(one[1:], two[1:], strict=True):
        for key in SAME:
            assert float(b[key]) == pytest.approx(float(a[key]), rel=1e-4, abs=1e-5)
        accuracies = [float(row["train/image_accuracy"]) for row in (a, b)]
        assert accuracies[0] == pytest.approx(
            accuracies[1], abs=1.01 / 16
        )  # one near tie of the batch may fall otherwise
    assert two[-1]["zeroshot/folder/images"] == "8.0"
