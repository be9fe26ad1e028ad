"""The command line: help, mistakes, sweeps."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cliplab.cli.places import config_dir

PROBE = """
import sys
sys.argv = ["run.py", *{argv!r}]
from cliplab.cli import main
main()
assert "torch" not in sys.modules and "lightning" not in sys.modules
"""


@pytest.mark.parametrize("argv", [["--help"], ["--cfg", "job"], ["--cfg", "job", "experiment=vit_b32"]])
def test_help_and_config_answer_without_torch(argv: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(argv=argv)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "image_encoder" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    run = f"{sys.executable} -c 'from cliplab.cli import main; main()' --help"
    done = subprocess.run(
        ["bash", "-c", f"{run} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_value_that_cannot_work_is_told_without_torch(tmp_path: Path) -> None:
    probe = PROBE.format(argv=["data.batch_size=0"]).replace("main()\n", "try: main()\nexcept SystemExit: pass\n")
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "config error: data.batch_size: 0 must be 1 or more\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["optimizer.lrr=1"], "optimizer.lrr: no such key; did you mean 'optimizer.lr'?"),
        (
            ["data=mixture", "data.train.weights={a: 1}"],
            "data.train.weights.a: this mixture has no such source; for your",
        ),
        (["data=csv", "data.train.caption_cols=1"], "no such key; did you mean 'data.train.caption_columns'?"),
        (["+optimizer.lrr=1"], "optimizer.lrr: cliplab.optim.muon.Muon takes no argument 'lrr'; did you mean 'lr'?"),
        (["+sead=1"], "sead: no such key at the top level; did you mean 'seed'?"),
        (["optimizer.lr=fast"], "optimizer.lr: 'fast' is not a float"),
        (["model.image_encoder._target_=nowhere.Tower"], "nowhere.Tower cannot be imported"),
        (["experiment=vit_b33"], "experiment: there is no choice 'vit_b33'; did you mean 'vit_b32'?"),
        (["data=emojj"], "data: there is no choice 'emojj'; did you mean 'emoji'?"),
        (["model.image_encoder.image_size=50"], "set model.image_encoder.image_size to 48"),
        (["trainer=gpu"], "use trainer=cpu"),
        (["task=evaluate"], "ckpt: task=evaluate needs a model: ckpt="),
        (["task=evaluate", "ckpt=nothing.ckpt"], "ckpt: nothing.ckpt is neither a file nor a folder"),
        (["task=evaluate", f"ckpt={__file__}"], "is not a file of weights; ckpt="),
        (["--cfg", "job", "optimizer.lrr=1"], "optimizer.lrr: no such key; did you mean 'optimizer.lr'?"),
        (["task=export", "run=/nope"], "run: /nope is neither a file nor a folder"),
        (["task=export", "pretrained=nope.pt", "format=openai"], "pretrained: nope.pt is neither a file nor a folder"),
        (["task=report"], "run: task=report needs a run folder"),
        (
            ["experiment=vit_b32", "trainer=cpu", "zeroshot.imagenet.dataset.path=/nowhere"],
            "zeroshot.imagenet.dataset.path: /nowhere is neither a folder nor a file",
        ),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_mistake_is_one_line_and_leaves_nothing(
    argv: list[str],
    message: str,
    command: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command(*argv) == 1
    said = capsys.readouterr().err.strip()
    assert message in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.ckpt"))


def test_mistake_in_an_experiment_file_is_named(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    configs = tmp_path / "configs"
    shutil.copytree(config_dir(), configs)
    (configs / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - emoji\nname: mine\noptimizer:\n  weight_decy: 0.1\n"
    )
    monkeypatch.setattr("cliplab.cli.places.config_dir", lambda: configs)
    assert command("experiment=mine") == 1
    assert "optimizer.weight_decy" in capsys.readouterr().err.splitlines()[-1]


def test_multirun_runs_every_job_and_ends_with_a_leaderboard(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = [a for a in arguments if not a.startswith(("trainer.max_epochs", "data.batch_size"))]
    status = command("-m", *short, "trainer.max_epochs=1", "optimizer.lr=1e-3,3e-3", "data.batch_size=16,9999")
    assert status == 0  # though two of the four jobs asked for more samples than there are
    (sweep,) = (tmp_path / "logs" / "multiruns").iterdir()
    assert sorted(p.name for p in sweep.iterdir() if p.is_dir()) == ["0", "1", "2", "3"]
    with (sweep / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished", "finished", "failed", "failed"]
    assert float(rows[0]["value"]) >= float(rows[1]["value"])
    assert {row["optimizer.lr"] for row in rows} == {"0.001", "0.003"}
    for row in rows[:2]:
        manifest = json.loads((sweep / row["job"] / "manifest.json").read_text())
        assert float(row["value"]) == manifest["final"]["zeroshot/folder/acc5"]
    said = capsys.readouterr()
    assert "data.batch_size: 9999 exceeds the" in said.err
    assert said.out.strip().endswith("summary.html")
    page = (sweep / "summary.html").read_text()
    assert "Leaderboard" in page
    (sweep / "summary.html").unlink()
    assert command("task=report", f"run={sweep}") == 0
    assert (sweep / "summary.html").read_text() == page


def search(command: Callable[..., int], arguments: list[str], *more: str) -> int:
    short = [a for a in arguments if not a.startswith(("trainer.max_epochs", "data.batch_size"))]
    return command("-m", *short, "sweep=optuna", "sweep.trials=2", "trainer.max_epochs=1", *more)


def test_search_returns_the_metric_to_optuna(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(command, arguments, "data.batch_size=16", "optimized_metric=zeroshot/folder/mean_rank") == 0
    (sweep,) = (tmp_path / "logs" / "multiruns").iterdir()
    with (sweep / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["optimizer.lr"] for row in rows}) == 2
    assert all(1e-4 <= float(row["optimizer.lr"]) <= 5e-3 for row in rows)
    finals = [json.loads((sweep / row["job"] / "manifest.json").read_text())["final"] for row in rows]
    assert [float(row["value"]) for row in rows] == [final["zeroshot/folder/mean_rank"] for final in finals]
    assert "2 of 2 jobs; best" in capsys.readouterr().out


def test_search_in_which_every_trial_fails_says_so(
    command: Callable[..., int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(command, arguments, "data.batch_size=9999") == 1
    assert "error: the sweep has no result: all jobs failed" in capsys.readouterr().err.splitlines()[-1]
