"""What is wrong with a verb's command is told before torch is imported."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cliplab.cli.places import config_dir
from cliplab.settings.config import ConfigError, did_you_mean
from cliplab.settings.job import Job
from cliplab.settings.signatures import NotThere, read_fields
from cliplab.settings.verbs import COMMON_OPTIONS, check_verb

TASKS = {path.stem: yaml.safe_load(path.read_text()) for path in (config_dir() / "task").glob("*.yaml")}
NOTHING = dict.fromkeys(("ckpt", "run", "pretrained", "pretrained_tower", "images", "labels", "query", "format", "out"))


def job(task: str, tmp_path: Path, options: dict[str, Any] | None = None, **given: Any) -> Job:
    config = {
        **NOTHING,
        "benchmark": None,
        "paths": {"run": str(tmp_path / "run")},
        "task": TASKS[task] | (options or {}),
    }
    return Job({**config, **given}, None, ())


@pytest.mark.parametrize("task", TASKS)
def test_options_are_those_that_the_config_sets(task: str) -> None:
    try:
        known = read_fields(TASKS[task]["function"].rpartition(".")[0] + ".Options")
    except NotThere:
        known = {}
    assert known is not None
    assert set(known) == set(TASKS[task]) - set(COMMON_OPTIONS)


@pytest.mark.parametrize(
    ("task", "options", "given", "message"),
    [
        ("embed", {"batch_size": 0}, {}, "task.batch_size: 0 must be 1 or more"),
        ("embed", {"batch_sise": 8}, {}, "task.batch_sise: task=embed has no such option; did you mean 'batch_size'?"),
        ("classify", {"shown": -1}, {}, "task.shown: -1 must be 0 or more"),
        ("search", {"top": "all"}, {}, "task.top: 'all' is not an int; it must be 1 or more"),
        ("prepare", {"encoding": "jpg"}, {}, "task.encoding: 'jpg' is not a choice; did you mean 'jpeg'?"),
        ("prepare", {"quality": 101}, {}, "task.quality: 101 must be between 1 and 100"),
        ("embed", {}, {}, "images: task=embed needs pictures"),
        ("embed", {}, {"images": "/nowhere"}, "images: /nowhere is neither a folder nor a file"),
        ("embed", {}, {"images": "."}, "ckpt: task=embed needs a model"),
        ("classify", {}, {"images": "."}, "labels: task=classify needs labels"),
        ("search", {}, {"images": "."}, "query: task=search needs a query"),
        ("export", {}, {"format": "onyx"}, "not 'onyx'; did you mean 'onnx'?"),
        ("export", {}, {"format": "transformers"}, "not 'transformers'; did you mean 'huggingface'?"),
        ("export", {}, {"format": "onnx", "out": "."}, "out: . exists and is not an empty folder"),
        ("evaluate", {}, {}, "ckpt: task=evaluate needs a model"),
        ("evaluate", {}, {"run": "/nowhere"}, "run: /nowhere is neither a file nor a folder"),
        ("train", {}, {"run": "/nowhere"}, "run: /nowhere is neither a file nor a folder"),
        ("train", {}, {"pretrained_tower": "image"}, "give pretrained=<weights> too"),
        ("train", {}, {"pretrained_tower": "both"}, "'both' is neither image nor text"),
        ("evaluate", {}, {"pretrained_tower": "image"}, "task=evaluate needs both towers"),
        ("prepare", {}, {}, "out: task=prepare needs a folder"),
        ("prepare", {}, {"out": __file__}, "is a file; name a folder"),
        ("benchmark", {}, {}, "benchmark: choose what to measure"),
        (
            "embed",
            {"function": "cliplab.tasks.embedd.run"},
            {},
            "task.function: cliplab.tasks.embedd.run cannot be imported",
        ),
        ("embed", {"function": "cliplab.tasks.embed.runn"}, {"images": "."}, "no 'runn' in cliplab.tasks.embed"),
    ],
)
def test_what_is_wrong_is_told(
    task: str, options: dict[str, Any], given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_verb(job(task, tmp_path, options, **given))
    assert message in str(caught.value)


def test_verbs_with_checks_import_nothing_heavy() -> None:
    names = [name for name in TASKS if name not in ("report", "compare")]
    program = f"import sys, {', '.join(f'cliplab.tasks.{name}' for name in names)}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_formats_that_are_offered_are_written() -> None:
    from cliplab.checkpoints.write import FORMATS as WRITERS
    from cliplab.tasks.export import FORMATS

    assert tuple(WRITERS) == FORMATS
    assert did_you_mean("onyx", FORMATS)


def test_what_the_run_of_a_model_cannot_give_is_told_from_its_config(tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    (trained / "checkpoints").mkdir(parents=True)
    (trained / "checkpoints" / "last.ckpt").touch()
    clip = {"_target_": "cliplab.objectives.contrastive.ClipLoss"}
    (trained / "config.yaml").write_text(yaml.safe_dump({"objective": clip, "callbacks": {"a": {"_target_": "x.Y"}}}))
    with pytest.raises(
        ConfigError, match="its objective, ClipLoss, does not write captions; use a model of objective="
    ):
        check_verb(job("caption", tmp_path, images=".", run=str(trained)))
    with pytest.raises(ConfigError, match=r"^weights=ema: .*last.ckpt has no average of the weights; leave it out"):
        check_verb(job("embed", tmp_path, images=".", run=str(trained), weights="ema"))
    average = {"ema": {"_target_": "cliplab.training.averaging.AverageWeights"}}
    (trained / "config.yaml").write_text(yaml.safe_dump({"objective": clip, "callbacks": average}))
    check_verb(job("embed", tmp_path, images=".", run=str(trained), weights="ema"))
