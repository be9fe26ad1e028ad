"""Runs are found, filtered, sorted, kept in an index, and removed only when that is confirmed."""

import csv
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from cliplab.cli.claim import claimed
from cliplab.runs.listing import all_runs, amount, ordered, selected
from cliplab.runs.selection import selected_runs, short_folders
from cliplab.runs.table import write_table
from cliplab.settings.config import ConfigError
from tests.commands import exit_status


def make(root: Path, name: str, acc1: float | None = None, status: str = "finished", **facts: object) -> Path:
    folder = root / "logs" / name
    folder.mkdir(parents=True)
    final = {} if acc1 is None else {"zeroshot/toy/acc1": acc1, "val/recall@1": acc1 / 2}
    typed = ["experiment=emoji", f"optimizer.lr={facts.pop('lr', '1e-3')}", "seed=1"]
    known = {"run_name": "emoji", "task": "train", "started": "2026-11-01T00:00:00+00:00", "overrides": typed}
    (folder / "manifest.json").write_text(json.dumps(known | {"status": status, "final": final} | facts))
    return folder


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    make(tmp_path, "train/emoji/a", 0.9, tags=["paper"], note="with colour, too", lr="3e-4")
    make(tmp_path, "train/emoji/b", 0.5, started="2026-11-02T00:00:00+00:00")
    make(tmp_path, "train/vit/c", None, "failed", run_name="vit", error="ValueError: no")
    make(tmp_path, "multiruns/night/0", 0.7, seed=3)
    old = tmp_path / "logs" / "train" / "emoji" / "old"  # of an earlier version: no overrides in its manifest
    old.mkdir()
    (old / "manifest.json").write_text(json.dumps({"status": "finished", "final": {"zeroshot/toy/acc1": 0.6}}))
    (old / "overrides.yaml").write_text(yaml.safe_dump(["experiment=emoji", "optimizer.lr=0.5"]))
    begun = tmp_path / "logs" / "train" / "emoji" / "begun"
    begun.mkdir()
    (begun / "config.yaml").write_text("")
    return tmp_path / "logs"


def names(rows: list) -> list[str]:
    return [row.folder.name for row in rows]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("acc1>0.55", "a 0 old"),
        ("acc1 > 55% and status=finished", "a 0 old"),
        ("acc1>0.6, acc1<0.8", "0"),
        ("zeroshot/toy/acc1=0.5", "b"),
        ("status!=finished", "c begun"),
        ("tags=paper", "a"),
        ("note~COLOUR", "a"),
        ("lr<1e-3", "a"),
        ("optimizer.lr=0.5", "old"),
        ("experiment=vit", "c"),
        ("seed=3", "0"),
        ("run~/night/", "0"),
        ("disk<1GB and age>1d and task=train", "a b c 0"),
        (None, "a b c 0 old begun"),
    ],
)
def test_conditions(logs: Path, where: str | None, found: str) -> None:
    assert sorted(names(selected(all_runs(logs), where))) == sorted(found.split())


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("acc2>0.5", "no run has 'acc2'; did you mean"),
        (
            "nosuch>1",
            r"no run has 'nosuch'; there are status, .*; figures: acc1, recall@1; typed: experiment, optimizer.lr",
        ),
        ("acc1", "is no condition"),
        ("acc1>high", "'high', which is no number"),
    ],
)
def test_a_condition_that_cannot_be_meant(logs: Path, where: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        selected(all_runs(logs), where)


def test_what_was_typed_comes_before_a_figure_of_the_same_ending(tmp_path: Path) -> None:
    folder = make(tmp_path, "a", 0.5, lr="0.25")
    facts = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**facts, "final": {"train/lr": 0.0, "train/loss": 2.0}}))
    (row,) = all_runs(tmp_path / "logs")
    assert (row.value("lr"), row.value("train/lr"), row.value("loss")) == ("0.25", 0.0, 2.0)


def test_a_run_has_a_duration(tmp_path: Path) -> None:
    make(tmp_path, "short", finished="2026-11-01T00:20:00+00:00")
    make(tmp_path, "long", finished="2026-11-01T03:00:00+01:00")
    make(tmp_path, "crashed", status="failed", finished=None)
    make(tmp_path, "going", status="running")
    rows = all_runs(tmp_path / "logs")
    found = {row.folder.name: row.value("duration") for row in rows}
    going = found.pop("going")
    assert found == {"short": 1200, "long": 7200, "crashed": None}
    assert going > 1e5
    assert names(selected(rows, "duration>1h and status=finished")) == ["long"]
    assert names(ordered(rows, "duration")) == ["short", "long", "going", "crashed"]


def test_order(logs: Path) -> None:
    rows = all_runs(logs)
    assert names(ordered(rows, "-acc1"))[:4] == ["a", "0", "old", "b"]
    assert names(ordered(rows, "acc1"))[:4] == ["b", "old", "0", "a"]
    with pytest.raises(ConfigError, match="sort: no run has 'acq1'"):
        ordered(rows, "acq1")


@pytest.mark.parametrize(
    ("text", "value"), [("70%", 0.7), ("2d", 172800), ("1.5GB", 1.5e9), ("1e-3", 1e-3), ("x", None)]
)
def test_amounts(text: str, value: float | None) -> None:
    assert amount(text) == pytest.approx(value) if value else amount(text) is None


def test_the_index_follows_what_changes(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {row.folder: dict(row.facts) for row in all_runs(logs)}
    index = logs / ".runs.json"
    assert index.is_file()
    read: list[str] = []
    from cliplab.runs import index as indexes

    real = indexes.read_facts
    monkeypatch.setattr(indexes, "read_facts", lambda path: (read.append(path), real(path))[1])
    assert {row.folder: dict(row.facts) for row in all_runs(logs)} == first
    assert read == [str(index)], "no manifest is read again"
    manifest = logs / "train" / "emoji" / "b" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0.5", "0.75"))
    make(logs.parent, "train/emoji/new", 0.1)
    os.remove(logs / "train" / "emoji" / "old" / "manifest.json")
    os.remove(logs / "train" / "emoji" / "old" / "overrides.yaml")
    assert sorted(names(selected(all_runs(logs), "acc1<0.8"))) == ["0", "b", "new"]
    index.write_text("{cut off")
    assert sorted(names(selected(all_runs(logs), "acc1<0.8"))) == ["0", "b", "new"]


def test_several_runs_are_named_at_once(logs: Path) -> None:
    emoji = logs / "train" / "emoji"
    assert selected_runs("run", f"{emoji}/[ab]") == [emoji / "a", emoji / "b"]
    assert selected_runs("run", str(logs / "multiruns")) == [logs / "multiruns" / "night" / "0"]
    assert short_folders([emoji / "a", logs / "train" / "vit" / "a"]) == ["emoji/a", "vit/a"]
    with pytest.raises(ConfigError, match="no run lies at"):
        selected_runs("run", f"{emoji}/x*")


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "parquet"])
def test_a_table_in_each_form(form: str, tmp_path: Path) -> None:
    file = write_table(tmp_path / f"runs.{form}", {"run": ["a", "b, ü"], "acc1": [0.5, None], "seed": [1, 2]})
    rows = {
        "csv": lambda: list(csv.DictReader(file.open(encoding="utf8"))),
        "json": lambda: json.loads(file.read_text("utf8")),
        "jsonl": lambda: [json.loads(line) for line in file.read_text("utf8").splitlines()],
        "parquet": lambda: pq.read_table(file).to_pylist(),
    }[form]()
    as_text = form == "csv"
    first = {"run": "a", "acc1": "0.5" if as_text else 0.5, "seed": "1" if as_text else 1}
    assert rows == [first, {"run": "b, ü", "acc1": "" if as_text else None, "seed": "2" if as_text else 2}]


@pytest.fixture
def command(logs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("CLIPLAB_ROOT", str(logs.parent))
    return lambda *argv: exit_status(monkeypatch, "task=runs", *argv)


def test_the_command_lists_writes_and_removes(
    command: Callable[..., int], logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("where=acc1>0.55 and status=finished", "sort=-acc1", f"out={tmp_path}/runs.csv") == 0
    with (tmp_path / "runs.csv").open() as file:
        assert [Path(row["run"]).name for row in csv.DictReader(file)] == ["a", "0", "old"]
    assert command(f"out={tmp_path}/x.foo") == 1
    assert "out: " in (told := capsys.readouterr().err)
    assert "x.foo names no form of a table; it ends with .csv, .json, .jsonl, .parquet" in told
    assert command("tags=[paper]") == 0
    said = capsys.readouterr().out.splitlines()
    assert "acc1 0.9" in said[-3]
    assert '#paper  "with colour, too"' in said[-2]
    assert said[-1] == f"1 of 6 runs in {logs}"
    assert command("delete=true") == 1
    assert "delete: which runs?" in capsys.readouterr().err
    assert command("delete=true", "where=status=failed") == 1
    assert "yes=true removes without asking" in capsys.readouterr().err
    assert command("delete=true", "where=status=failed", "yes=true") == 0
    assert not (logs / "train" / "vit" / "c").exists()
    assert command(f"delete={logs}/multiruns/night", "yes=true") == 0
    assert sorted(names(all_runs(logs))) == ["a", "b", "begun", "old"]


@pytest.mark.parametrize("value", ["", "' '", ".", "{logs}/nothing", "{logs}/nothing/*", "configs"])
def test_what_holds_no_run_is_not_removed(
    value: str,
    command: Callable[..., int],
    logs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clone of this repository has two folders with a config.yaml."""
    clone = logs.parent / "clone"
    for name in ("configs", "tests", ".git"):
        (clone / name).mkdir(parents=True)
        (clone / name / "config.yaml").touch()
    (logs / "nothing").mkdir()
    monkeypatch.chdir(clone)
    before = sorted(logs.parent.rglob("*"))
    assert command(f"delete={value.format(logs=logs)}", "yes=true") == 1
    assert sorted(path for path in logs.parent.rglob("*") if path.name != ".runs.json") == before
    assert capsys.readouterr().err.startswith("config error: delete: ")


def test_a_folder_with_more_than_runs_is_not_removed(
    command: Callable[..., int], logs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (logs / "train" / "emoji" / "b" / ".git").mkdir()
    assert command(f"delete={logs}/train/emoji/b", "yes=true") == 1
    assert "holds a repository, which is not removed" in capsys.readouterr().err
    monkeypatch.chdir(logs / "train" / "emoji" / "a")
    assert command("delete=.", "yes=true") == 1
    assert "emoji/a, which is not removed" in capsys.readouterr().err


def test_runs_of_an_experiment_of_any_name_are_listed(
    command: Callable[..., int], logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(logs.parent, "train/kINT/a", 0.7, run_name="kINT")
    assert command("experiment=kINT") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [f"    {logs}/train/kINT/a", f"1 of 7 runs in {logs}"]
    assert command("experiment=kINt") == 0
    assert (
        capsys.readouterr().out.splitlines()[-1].startswith("experiment: no run of kINt; did you mean 'kINT'?; there")
    )


@pytest.mark.parametrize("where", ["acc1>", "status=", "acc1>0.5 or status=failed", "acc1>0.5 and acc1<"])
def test_a_condition_that_is_not_whole_is_told(where: str, logs: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no value; write one after|conditions are joined by and"):
        selected(all_runs(logs), where)


def test_a_run_that_still_runs_is_not_removed(
    command: Callable[..., int], logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cliplab.runs.status import this_process

    folder = make(logs.parent, "train/emoji/live", None, "running", **this_process())
    assert command(f"delete={folder}", "yes=true") == 1
    assert "is still running" in capsys.readouterr().err
    assert folder.is_dir()


def test_two_hundred_launches_at_once_have_two_hundred_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are given the same name, and few ids are left to draw."""
    ids = iter([f"{i % 50:08x}" for i in range(100_000)])
    monkeypatch.setattr("cliplab.cli.claim.secrets.token_hex", lambda _: next(ids) + f"{next(count):04x}")
    count = iter(range(100_000))
    found: list[Path] = []
    start = threading.Barrier(20)

    def launch() -> None:
        start.wait()
        for _ in range(10):
            found.append(claimed(tmp_path / "emoji" / "2026-11-26_00-00-00-7f56"))

    threads = [threading.Thread(target=launch) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 200
    assert all(folder.is_dir() and folder.name.startswith("2026-11-26_00-00-00-") for folder in found)
