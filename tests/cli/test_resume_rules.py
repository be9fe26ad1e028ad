"""What may be typed beside resume=: it takes effect, or it is refused with the reason and the way on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cliplab.cli.arguments import UsageError, read_arguments
from cliplab.cli.further import about_length, further, newest_unfinished
from cliplab.cli.places import config_dir
from cliplab.cli.resume import resumed
from cliplab.program import hydra_quoted
from cliplab.runs.status import this_process
from cliplab.settings.config import resolved, save_yaml
from cliplab.settings.interpolations import with_interpolations

TYPED = ["data=csv", "data.path=pairs.csv", "trainer.max_epochs=3", "zeroshot=none"]


@pytest.fixture(scope="module")
def composed() -> Any:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("config", overrides=["paths.run=/earlier/run", "paths.root=/earlier", *TYPED])


@pytest.fixture
def a_run(composed: Any, tmp_path: Path) -> Callable[..., Path]:
    """A run's folder as training leaves it, without the training."""

    def make(name: str = "run", status: str = "interrupted", checkpoint: bool = True, references: bool = True) -> Path:
        run = tmp_path / name
        (run / "checkpoints").mkdir(parents=True)
        if checkpoint:
            (run / "checkpoints" / "last.ckpt").touch()
        config = resolved(composed)
        save_yaml(run / "config.yaml", config)
        save_yaml(run / "overrides.yaml", TYPED)
        if references:
            save_yaml(run / "composed.yaml", with_interpolations(config, composed))
        (run / "manifest.json").write_text(json.dumps({"status": status}))
        return run

    return make


def config_of(*argv: str) -> dict[str, Any]:
    """What Hydra makes of a resumed run's arguments."""
    arguments = resumed(read_arguments(argv))
    with initialize_config_dir(arguments.flags["config_path"], version_base="1.3"):
        cfg = compose(arguments.flags["config_name"], overrides=list(arguments.overrides))
    return resolved(cfg)


def test_references_are_put_back_and_give_the_same_config(composed: Any) -> None:
    config = resolved(composed)
    restored = with_interpolations(config, composed)
    assert OmegaConf.to_container(OmegaConf.create(restored), resolve=True) == config
    assert restored["data"]["train"]["path"] == "${data.path}"
    assert restored["callbacks"]["checkpoint"]["dirpath"] == "${paths.run}/checkpoints"


def test_what_was_changed_after_composing_is_kept(composed: Any) -> None:
    config = resolved(composed)
    config["data"]["train"]["path"] = "other ${x}"
    restored = with_interpolations(config, composed)
    assert restored["data"]["validation"] == config["data"]["validation"]
    assert OmegaConf.to_container(OmegaConf.create(restored), resolve=True) == config


@pytest.mark.parametrize("references", [True, False], ids=["", "of an earlier version"])
def test_a_value_reaches_all_that_follow_it(a_run: Callable[..., Path], references: bool) -> None:
    run = a_run(references=references)
    config = config_of(f"resume={run}", "data.path=moved.csv", "trainer.log_every_n_steps=7", "trainer.max_steps=99")
    assert config["data"]["train"]["path"] == "moved.csv"
    assert config["callbacks"]["log_steps"]["every_n_steps"] == 7
    assert config["data"]["max_steps"] == 99
    assert config["paths"]["run"] == str(run)
    assert config["callbacks"]["checkpoint"]["dirpath"] == f"{run}/checkpoints"
    assert config["paths"]["root"] == "/earlier"


def test_a_multiple_of_a_rate_stays_one(a_run: Callable[..., Path]) -> None:
    run = a_run(checkpoint=False)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        lion = compose("config", overrides=[*TYPED, f"paths.run={hydra_quoted(run)}", "optimizer=lion"])
    save_yaml(run / "config.yaml", resolved(lion))
    save_yaml(run / "composed.yaml", with_interpolations(resolved(lion), lion))
    optimizer = config_of(f"resume={run}", "adamw_lr=5e-3")["optimizer"]
    assert (optimizer["lr"], optimizer["weight_decay"]) == (1e-3, 1.0)


@pytest.mark.parametrize(
    "name", ["a=b", "a,b", "é", "a b", "it's", "{x}", "a\\b", "[1]", "null", 'q"q', "a:b", "#1", "$x"]
)
def test_a_folder_of_any_name_goes_on(a_run: Callable[..., Path], name: str) -> None:
    run = a_run(name)
    for word in (str(run), hydra_quoted(run), str(run / "checkpoints" / "last.ckpt"), f"{run}/"):
        assert config_of(f"resume={word}")["paths"]["run"] == str(run)


ALLOWED = [
    *("trainer.max_epochs=9", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.precision=32-true"),
    *(
        "data.num_workers=3",
        "data.max_bad_fraction=0.5",
        "data.allow_changed_data=true",
        "+trainer.max_time=00:01:00:00",
    ),
    *("callbacks.evaluation.every_n_epochs=5", "~callbacks.progress", "callbacks.checkpoint.every_n_train_steps=4"),
    *("logger.csv.save_dir=/x", "compile=true", "optimizer.lr=2e-3", "seed=1", "data.batch_size=256"),
    *("+objective.block_size=64", "+objective.parts.clip.block_size=64"),
]
REFUSED = [
    *("optimizer.lr=1e-5", "optimizer.betas=[0.5,0.6]", "scheduler.warmup_steps=3", "seed=7", "data.batch_size=8"),
    *(
        "model.embed_dim=64",
        "model.image_encoder.width=64",
        "objective._target_=x",
        "+objective.x=1",
        "~scheduler.min_ratio",
    ),
    *(
        "trainer.limit_train_batches=3",
        "trainer.gradient_clip_val=1.0",
        "data.train.limit=10",
        "pretrained=x.pt",
        "ckpt=x.ckpt",
    ),
    *(
        "callbacks.best.monitor=val/loss",
        "name=other",
        "paths.run=/x",
        "hydra.run.dir=/x",
        "task=evaluate",
        "data=emoji",
    ),
    *("experiment=vit_b32", "debug=fast", "optimizer.nesterov=false", "images=folder", "++seed=3"),
]


@pytest.mark.parametrize("override", ALLOWED)
def test_what_can_change_is_handed_on(a_run: Callable[..., Path], override: str) -> None:
    assert override in resumed(read_arguments([f"resume={a_run()}", override])).overrides


@pytest.mark.parametrize("override", REFUSED)
def test_what_would_be_dropped_is_refused_with_the_way_on(a_run: Callable[..., Path], override: str) -> None:
    with pytest.raises(UsageError) as caught:
        resumed(read_arguments([f"resume={a_run()}", override]))
    told = str(caught.value)
    assert told.startswith(f"{override}: ")
    assert "\n" not in told
    assert any(
        way in told for way in ("new run: ", "can change beside resume=", "copy the folder", "for another task: ")
    )


def test_a_new_run_is_offered_with_this_runs_settings_and_weights(a_run: Callable[..., Path]) -> None:
    run = a_run()
    with pytest.raises(UsageError, match=rf"from its weights, a new run: .* data=csv .* run={run} optimizer.lr=1e-5$"):
        resumed(read_arguments([f"resume={run}", "optimizer.lr=1e-5"]))
    with pytest.raises(UsageError, match=r"; a new run: .* zeroshot=none model.embed_dim=64$"):  # other shapes
        resumed(read_arguments([f"resume={run}", "model.embed_dim=64"]))


def test_before_the_first_checkpoint_values_take_effect(a_run: Callable[..., Path]) -> None:
    run = a_run(checkpoint=False)
    assert config_of(f"resume={run}", "optimizer.lr=1e-5", "seed=3")["data"]["seed"] == 3
    with pytest.raises(UsageError, match="not a whole group"):
        resumed(read_arguments([f"resume={run}", "data=emoji"]))


def test_a_finished_run_stays_as_it_is(a_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(status="finished")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for more in ([], ["trainer.max_epochs=3"]):
        with pytest.raises(SystemExit) as stop:
            resumed(read_arguments([f"resume={run}", *more]))
        assert stop.value.code == 0
        assert "is finished; nothing to do" in capsys.readouterr().out
    with pytest.raises(
        UsageError, match=r"data.num_workers=1: .* is finished, so nothing in it can change; .*new run: "
    ):
        resumed(read_arguments([f"resume={run}", "data.num_workers=1"]))
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_finished_run_can_be_lengthened(a_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(status="finished")
    (run / "manifest.json").write_text(json.dumps({"status": "finished", "data": {"steps": 9000}}))
    config = config_of(f"resume={run}", "trainer.max_epochs=6", "data.num_workers=0")
    assert (config["trainer"]["max_epochs"], config["data"]["num_workers"]) == (6, 0)
    said = capsys.readouterr().out
    assert "this run had 9,000 steps and now ends after 18,000. Its cosine schedule covers the whole run" in said
    assert "had come down to 0, goes on at 0.001 and" in said
    now = further(run, config, ["trainer.max_epochs=6"])
    assert now
    assert "schedule" not in about_length(now, {**config, "scheduler": {"_target_": CONSTANT}})
    with pytest.raises(UsageError, match=r"optimizer\.lr"):
        resumed(read_arguments([f"resume={run}", "trainer.max_epochs=6", "optimizer.lr=1"]))


LONG = {"status": "finished", "step": 600, "data": {"steps": 600, "steps_per_epoch": 200}}  # three epochs


@pytest.mark.parametrize("typed", ["trainer.max_epochs=2", "trainer.max_steps=600", "trainer.max_steps=30"])
def test_a_finished_run_that_was_as_long_already_is_left(
    typed: str, a_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run()
    (run / "manifest.json").write_text(json.dumps(LONG))
    with pytest.raises(SystemExit) as stop:
        resumed(read_arguments([f"resume={run}", typed]))
    steps = {"trainer.max_epochs=2": 400}.get(typed, int(typed.rpartition("=")[2]))
    assert stop.value.code == 0
    assert capsys.readouterr().out == (
        f"{run} is finished, after 600 steps, and {typed} asks for {steps} steps; nothing to do\n{run}\n"
    )


def test_the_limit_that_ends_a_longer_run_is_told(
    a_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run()
    (run / "manifest.json").write_text(json.dumps(LONG))
    with pytest.raises(UsageError) as caught:
        resumed(read_arguments([f"resume={run}", "trainer.max_steps=900"]))
    assert str(caught.value) == (
        f"trainer.max_steps=900: {run} is finished, after 600 steps, and it ends by trainer.max_epochs=3, the first of two "
        "limits: trainer.max_steps=900 would allow 900; to go on, type trainer.max_epochs=-1 beside it"
    )
    resumed(read_arguments([f"resume={run}", "trainer.max_steps=900", "trainer.max_epochs=4"]))
    told = "this run had 600 steps and now ends after 800, by trainer.max_epochs=4, the first of two limits: "
    assert f"{told}trainer.max_steps=900 would allow 900" in capsys.readouterr().out
    resumed(read_arguments([f"resume={run}", "trainer.max_steps=900", "trainer.max_epochs=-1"]))
    assert "this run had 600 steps and now ends after 900. Its cosine" in capsys.readouterr().out


def test_a_run_that_ended_by_time_gets_more_time(a_run: Callable[..., Path]) -> None:
    run, typed = a_run(), "+trainer.max_time=00:00:01:00"
    (run / "manifest.json").write_text(json.dumps({**LONG, "step": 450}))
    assert typed in resumed(read_arguments([f"resume={run}", typed])).overrides
    (run / "manifest.json").write_text(json.dumps(LONG))
    with pytest.raises(UsageError, match="is finished, so nothing in it can change"):
        resumed(read_arguments([f"resume={run}", typed]))


def test_a_run_that_another_process_works_on_is_left_to_it(
    a_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run()
    (run / "manifest.json").write_text(json.dumps({"status": "running", **this_process()}))
    pid = this_process()["pid"]
    monkeypatch.setattr("cliplab.runs.status.os.getpid", lambda: 1)
    with pytest.raises(
        UsageError, match=f"^resume: process {pid} is at work on {run}; wait for its end, or stop it with"
    ):
        resumed(read_arguments([f"resume={run}"]))


def test_a_stopped_run_is_not_to_end_before_its_checkpoint(a_run: Callable[..., Path]) -> None:
    run = a_run()
    (run / "manifest.json").write_text(json.dumps({**LONG, "status": "interrupted", "step": 450}))
    with pytest.raises(UsageError, match=r"^trainer.max_epochs: the run would end at step 400, .* is at step 450; "):
        resumed(read_arguments([f"resume={run}", "trainer.max_epochs=2"]))


def test_a_folder_above_one_run_is_that_run(a_run: Callable[..., Path], tmp_path: Path) -> None:
    run = a_run("logs/train/emoji/first")
    evaluated = a_run("logs/evaluate/emoji/other")
    (evaluated / "manifest.json").write_text(json.dumps({"task": "evaluate"}))
    (run / "report.html").touch()
    for word in (tmp_path / "logs", run.parent, run / "report.html", run / "checkpoints"):
        assert resumed(read_arguments([f"resume={word}"])).flags["config_path"] == str(run)
    a_run("logs/train/emoji/second")
    with pytest.raises(UsageError, match=r"logs holds 2 runs; name one of them, the newest first: train/emoji/second"):
        resumed(read_arguments([f"resume={tmp_path}/logs"]))
    with pytest.raises(UsageError, match=r"^resume: .*/emoij is neither a file nor a folder; did you mean 'emoji'"):
        resumed(read_arguments([f"resume={tmp_path}/logs/train/emoij"]))


def test_a_folder_above_one_sweep_is_that_sweep(a_run: Callable[..., Path], tmp_path: Path) -> None:
    for job in "01":
        a_run(f"logs/multiruns/s/{job}")
    sweep = tmp_path / "logs" / "multiruns" / "s"
    save_yaml(sweep / "sweep.yaml", {"typed": ["seed=1,2"]})
    found = resumed(read_arguments([f"resume={tmp_path}/logs"]))
    assert (found.flags["multirun"], found.overrides) == (True, ("seed=1,2", f"hydra.sweep.dir={sweep}"))


def test_the_newest_unfinished_run_is_found(
    a_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPLAB_ROOT", str(tmp_path))
    with pytest.raises(UsageError, match=r"resume=auto: no run in .* is unfinished"):
        resumed(read_arguments(["resume=auto"]))
    states = {"old": "failed", "new": "preempted", "done": "finished", "live": "running"}
    for day, (name, status) in enumerate(states.items(), 1):
        run = a_run(f"logs/train/emoji/{name}")
        facts = {"status": status, "task": "train", "started": f"2026-11-0{day}T00:00:00+00:00"}
        (run / "manifest.json").write_text(json.dumps(facts | (this_process() if status == "running" else {})))
    arguments = resumed(read_arguments(["resume=auto"]))
    assert Path(arguments.flags["config_path"]).name == "new"
    facts = {"status": "running", **this_process(), "process_started": "before", "started": "2026-11-09T00:00:00+00:00"}
    (tmp_path / "logs/train/emoji/live/manifest.json").write_text(json.dumps(facts))  # it was killed
    assert Path(resumed(read_arguments(["resume=auto"])).flags["config_path"]).name == "live"
    elsewhere = resumed(read_arguments(["resume=auto", f"paths.logs={tmp_path}/logs/train", "trainer.devices=1"]))
    assert Path(elsewhere.flags["config_path"]).name == "live"
    assert not any(word.startswith("paths.logs=") for word in elsewhere.overrides)
    monkeypatch.setenv("CLIPLAB_ROOT", str(tmp_path / "other"))
    settings = tmp_path / "configs" / "local" / "default.yaml"  # of this machine
    settings.parent.mkdir(parents=True)
    settings.write_text(f"# @package _global_\npaths:\n  logs: {tmp_path}/logs\n")
    (tmp_path / "configs" / "config.yaml").write_text("defaults: [_self_, local: default]\n")
    monkeypatch.setattr("cliplab.cli.further.places.config_dir", lambda: tmp_path / "configs")
    assert newest_unfinished().name == "live"


CONSTANT = "cliplab.optim.schedule.constant"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["resume="], "the folder is missing"),
        (["resume=/nowhere"], "/nowhere is neither a file nor a folder"),
        (["resume=/proc/tty"], "/proc/tty holds no training run; resume=logs/train/<experiment>/<run>"),
        (["resume=/a", "resume=/b"], "only one run can be resumed at a time"),
        (["resume=[/a,/b]"], "only one run can be resumed at a time"),
        (["resume=/a,/b"], "only one run can be resumed at a time"),
        (["-m", "resume=/a"], "leave out --multirun"),
        (["--config-dir=/x", "resume=/a"], "leave out --config-dir"),
    ],
)
def test_a_run_goes_on_alone(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resumed(read_arguments(argv))


@pytest.mark.parametrize("text", ["", "a: [", "x: 1", "- 1"])
def test_a_config_that_is_none_is_named(a_run: Callable[..., Path], text: str) -> None:
    run = a_run()
    (run / "config.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"config.yaml is not the config of a run"):
        resumed(read_arguments([f"resume={run}"]))


def test_the_saved_config_is_plain_yaml(a_run: Callable[..., Path]) -> None:
    assert yaml.safe_load((a_run() / "composed.yaml").read_text())["data"]["path"] == "pairs.csv"
