"""run=, ckpt= and pretrained= find the same model, whichever way a user names it; nothing is read."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cliplab.settings.config import ConfigError
from cliplab.settings.model_source import KEYS, LOAD, model_source, model_sources, named_model, named_run


def asked(task: str = "embed", **given: Any) -> dict[str, Any]:
    return {"task": {"name": task}, **dict.fromkeys(KEYS), **given}


def run_folder(folder: Path, *, age: int = 0, task: str = "train", checkpoints: tuple[str, ...] = ("last",)) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: emoji\n")
    (folder / "manifest.json").write_text(json.dumps({"task": task}))
    if task == "train":
        (folder / "checkpoints").mkdir()
    for name in checkpoints if task == "train" else ():
        file = folder / "checkpoints" / f"{name}.ckpt"
        file.touch()
        os.utime(file, (1e9 - age, 1e9 - age))
    return folder


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("below", ["", "checkpoints", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("start", ["absolute", "relative", "home", "trailing slash"])
def test_a_run_is_found_by_each_of_its_names(
    key: str, below: str, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_folder(tmp_path / "my runs" / "a=b, é")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    named = {
        "absolute": str(run / below),
        "relative": str((run / below).relative_to(tmp_path)),
        "home": f"~/{(run / below).relative_to(tmp_path)}",
        "trailing slash": f"{run / below}/",
    }[start]
    found = model_source(asked(**{key: named}))
    assert found.key == key
    assert Path(found.spec).resolve() == run / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_folder_above_one_run_is_that_run(depth: int, tmp_path: Path) -> None:
    run = run_folder(tmp_path.joinpath(*"abcd"[:depth]))
    run_folder(tmp_path / "evaluated", task="evaluate")
    assert model_source(asked(run=str(tmp_path))).spec == str(run / "checkpoints" / "last.ckpt")


def test_a_path_for_load_is_found_as_other_names_are(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "logs" / "train" / "a")
    assert named_model(LOAD, str(tmp_path)).spec == str(run / "checkpoints" / "last.ckpt")
    assert named_model(LOAD, "openai/clip-vit-base-patch32").spec == "openai/clip-vit-base-patch32"
    run_folder(tmp_path / "logs" / "train" / "b")
    with pytest.raises(
        ConfigError, match=r"^cliplab.load: .* holds 2 runs; name one of them, the newest first: logs/train"
    ):
        named_model(LOAD, str(tmp_path))


def test_a_folder_above_several_runs_lists_the_newest_first(tmp_path: Path) -> None:
    for age in range(6):
        run_folder(tmp_path / "emoji" / f"run{age}", age=age)
    with pytest.raises(
        ConfigError, match=r"^run: .* holds 6 runs; .*: emoji/run0, emoji/run1, emoji/run2, emoji/run3$"
    ):
        model_source(asked(run=str(tmp_path)))


@pytest.mark.parametrize("key", KEYS)
def test_foreign_weights_are_a_file_or_their_folder(key: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "ViT-B-32.pt").touch()
    assert model_source(asked(**{key: str(tmp_path)})).spec == str(tmp_path)
    assert model_source(asked(**{key: str(tmp_path / "ViT-B-32.pt")})).spec == str(tmp_path / "ViT-B-32.pt")


@pytest.mark.parametrize("name", ["openai/clip-vit-base-patch32", "open_clip:ViT-B-32:openai", "open_clip:RN50:openai"])
def test_names_on_a_hub_are_for_pretrained(name: str) -> None:
    assert model_source(asked(pretrained=name))[:2] == ("pretrained", name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "ckpt: task=embed needs a model: ckpt="),
        ({"run": "a", "ckpt": "b"}, "ckpt: ckpt and run are given; one is enough"),
        ({"run": ["a", "b"]}, "run: task=embed takes one model, not a list of 2"),
        ({"run": {"a": 1}}, "run: {'a': 1} is not a path"),
        ({"run": True}, "run: True is not a path"),
        ({"ckpt": "/nowhere/last.ckpt"}, "ckpt: /nowhere/last.ckpt is neither a file nor a folder"),
        ({"run": "mistyqed"}, "is neither a file nor a folder; did you mean 'mistyped'?"),
        ({"run": "owner/name"}, "for weights on a hub: pretrained=owner/name"),
        ({"pretrained": "https://x.y/z.pt"}, "pretrained: weights are not read from https://x.y/z.pt; fetch the file"),
        ({"pretrained": "hf-hub:owner/name"}, "not read from hf-hub:owner/name; pretrained=owner/name"),
        ({"pretrained": "owner/name.pt"}, "pretrained: owner/name.pt is neither a file nor a folder"),
        ({"run": "begun"}, "run: there is no checkpoint in begun/checkpoints yet; go on with the run, resume=begun"),
        (
            {"run": "cut"},
            "there is no last.ckpt in cut/checkpoints; name the one you want, ckpt=cut/checkpoints/best.ckpt",
        ),
        ({"run": "evaluated"}, "evaluated is a folder of task=evaluate, which does not write a checkpoint"),
        ({"run": "mistyped"}, "run: mistyped holds neither a run with a last.ckpt nor weights"),
    ],
)
def test_what_names_no_model_is_told(
    given: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mistyped").mkdir()
    run_folder(tmp_path / "begun", checkpoints=())
    run_folder(tmp_path / "cut", checkpoints=("best",))
    run_folder(tmp_path / "evaluated", task="evaluate")
    with pytest.raises(ConfigError) as caught:
        model_source(asked(**given))
    assert message in str(caught.value)


def test_several_models_by_lists_of_any_key(tmp_path: Path) -> None:
    a, b = run_folder(tmp_path / "a"), run_folder(tmp_path / "b")
    found = model_sources(asked("evaluate", run=[str(a), str(b)], pretrained="owner/name"))
    assert [source.key for source in found] == ["run", "run", "pretrained"]
    assert [Path(source.spec).parts[-3] for source in found[:2]] == ["a", "b"]
    with pytest.raises(ConfigError, match="a list needs two models or more"):
        model_sources(asked("evaluate", run=[str(a)]))


def test_a_page_is_made_again_for_the_run_that_a_file_of_it_names(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "logs" / "run")
    for name in (run, run / "checkpoints", run / "checkpoints" / "last.ckpt", tmp_path):
        assert named_run("run", str(name)) == run
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"holds no run; name the folder of one, as run=logs/train/"):
        named_run("run", str(tmp_path / "empty"))
