"""Options of Lightning that would do nothing here, or undo the counting of steps and samples, are refused by name."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cliplab.settings import check_trainer as settings
from cliplab.settings.check_trainer import (
    REFUSED,
    REFUSED_CALLBACKS,
    check_gpu,
    check_processes,
    check_trainer,
    gpu_is_possible,
    why_refused,
)
from cliplab.settings.config import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("accumulate_grad_batches", 3, "data.batch_size"),
        ("overfit_batches", 2, "debug=overfit"),
        ("overfit_batches", 0.1, "data.train.limit"),
        ("fast_dev_run", True, "debug=fast"),
        ("val_check_interval", 0.5, "callbacks.evaluation.every_n_steps"),
        ("check_val_every_n_epoch", 2, "callbacks.evaluation.every_n_epochs"),
        ("num_sanity_val_steps", 4, "callbacks.evaluation.before_training"),
        ("limit_val_batches", 2, "zeroshot.<set>.subset"),
        ("use_distributed_sampler", True, "leave it out"),
        ("enable_checkpointing", False, "~callbacks.checkpoint"),
        ("enable_progress_bar", False, "~callbacks.progress"),
        ("logger", False, "logger=csv"),
        ("barebones", True, "task=benchmark"),
        ("precision", "transformer-engine", "use bf16-mixed"),
        ("precision", "transformer-engine-float16", "use bf16-mixed"),
        ("on_nan", "ignore", "stop or skip"),
        ("on_nan", None, "stop or skip"),
        ("activation_checkpointing", "al", "did you mean 'all'"),
        ("activation_checkpointing", True, "none, all, or a number"),
        ("activation_checkpointing", -1, "none, all, or a number"),
    ],
)
def test_refused_with_the_key_the_value_and_what_to_use(key: str, value: Any, instead: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_trainer({"trainer": {key: value}})
    assert str(caught.value).startswith(f"trainer.{key}: {value!r}")
    assert instead in str(caught.value)
    assert "\n" not in str(caught.value)


def test_idle_values_and_other_options_pass() -> None:
    for key, refused in REFUSED.items():
        for value in refused.idle:
            check_trainer({"trainer": {key: value}})
    check_trainer({"trainer": {"gradient_clip_algorithm": "norm", "max_time": "00:01:00:00", "on_nan": "skip"}})
    check_trainer({"trainer": {}, "callbacks": {"a": None, "b": {"_target_": "lightning.pytorch.callbacks.Timer"}}})


@pytest.mark.parametrize("name", REFUSED_CALLBACKS)
def test_callbacks_that_count_otherwise_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^callbacks.mine: {name}: "):
        check_trainer({"callbacks": {"mine": {"_target_": f"lightning.pytorch.callbacks.{name}"}}})


def test_the_way_to_large_batches_is_named_where_there_is_one() -> None:
    assert "contrastive_accumulation" not in why_refused("accumulate_grad_batches", {})
    assert "trainer.contrastive_accumulation" in why_refused("accumulate_grad_batches", {"contrastive_accumulation": 1})
    assert why_refused("max_steps", {}) == ""


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (0, "0 must be a whole number from 1 on"),
        ("two", "'two' must be a whole"),
        (9, "9 parts are more than the 8 pairs"),
    ],
)
def test_parts_of_a_batch_are_a_number_of_pairs_at_most(chunks: Any, message: str) -> None:
    check_trainer({"trainer": {"contrastive_accumulation": 8}, "data": {"batch_size": 8}})
    with pytest.raises(ConfigError, match=f"^trainer.contrastive_accumulation: {message}"):
        check_trainer({"trainer": {"contrastive_accumulation": chunks}, "data": {"batch_size": 8}})


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no GPU, and no environment that speaks of one."""
    monkeypatch.setattr(settings.sys, "platform", "linux")
    monkeypatch.setattr(settings.shutil, "which", lambda name: None)
    for name in settings.VISIBLE:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize("driver", settings.DRIVERS)
def test_a_gpu_is_possible_where_a_driver_is(driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not gpu_is_possible(tmp_path)
    place = tmp_path / driver.lstrip("/")
    place.parent.mkdir(parents=True)
    place.touch()
    assert gpu_is_possible(tmp_path)
    for hidden in ("", "-1"):
        monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", hidden)
        assert not gpu_is_possible(tmp_path)
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_is_possible(tmp_path)


@pytest.mark.usefixtures("linux")
def test_other_signs_of_a_gpu_leave_the_word_to_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert gpu_is_possible(tmp_path)
    monkeypatch.setattr(settings.shutil, "which", lambda name: None)
    monkeypatch.setattr(settings.sys, "platform", "darwin")
    assert gpu_is_possible(tmp_path)


def test_only_training_on_a_gpu_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "gpu_is_possible", lambda: False)
    for accelerator, task in (("cpu", "train"), ("auto", "train"), ("gpu", "evaluate")):
        check_gpu({"trainer": {"accelerator": accelerator}, "task": {"name": task}})
    monkeypatch.setattr("sys.platform", "darwin")
    check_gpu({"trainer": {"accelerator": "mps"}, "task": {"name": "train"}})
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(ConfigError, match=r"trainer.accelerator: mps is for Apple's computers; use trainer=cpu"):
        check_gpu({"trainer": {"accelerator": "mps"}, "task": {"name": "evaluate"}})
    with pytest.raises(ConfigError, match=r"trainer.accelerator: no GPU .* trainer=cpu"):
        check_gpu({"trainer": {"accelerator": "gpu"}, "task": {"name": "train"}})


@pytest.mark.parametrize(
    ("trainer", "refused"),
    [
        ({"accelerator": "cpu", "devices": 9999}, True),
        ({"accelerator": "cpu", "devices": "9999"}, True),
        ({"accelerator": "cpu", "devices": 2}, False),
        ({"accelerator": "cpu", "devices": "auto"}, False),
        ({"accelerator": "gpu", "devices": 9999}, False),  # Lightning knows the GPUs
    ],
)
def test_more_processes_than_cores_are_told(trainer: dict, refused: bool) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.devices: .* cores") if refused else nullcontext():
        check_processes(trainer)
