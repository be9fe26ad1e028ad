"""Figures of a plan with known answers, and what it says about each."""

from dataclasses import replace

import pytest
import torch
import yaml

from cliplab.cli.places import config_dir
from cliplab.planning.device import Device
from cliplab.planning.figures import Figure, shown
from cliplab.planning.plan import Asked, as_json, make_plan
from cliplab.planning.screen import COLUMNS, print_plan
from cliplab.planning.setting import Machines, Texts, precision_on
from cliplab.settings.config import ConfigError

from .test_trace import config

DEVICE = Device("made up", 1, 100, True, 10, 1000, 100, 10, 0.9, 0.5, 0.5, 0.5)
ASKED = Asked(1_000_000, 2.0, True, Texts(14, 0.5))


def test_every_device_is_one() -> None:
    shares = yaml.safe_load((config_dir() / "device" / "_shares.yaml").read_text())
    files = [f for f in (config_dir() / "device").glob("*.yaml") if f.stem not in ("none", "_shares")]
    assert len(files) >= 7
    for file in files:
        node = shares | yaml.safe_load(file.read_text())
        device = Device(**{key: value for key, value in node.items() if key not in ("_target_", "defaults")})
        assert file.stem.endswith(f"-{device.memory_gb}gb")


def test_an_operation_takes_as_long_as_the_slower_of_its_two_sides() -> None:
    assert DEVICE.usable_bytes == 0.9e9
    assert DEVICE.seconds(10**12, 0, torch.bfloat16) == pytest.approx(0.02)
    assert DEVICE.seconds(10**12, 0, torch.float32) == pytest.approx(0.2)
    assert DEVICE.seconds(10**9, 10**9, torch.bfloat16) == pytest.approx(0.002)
    assert DEVICE.seconds_to_send(10**9, 1) == pytest.approx(0.02)
    assert DEVICE.seconds_to_send(10**9, 2) == pytest.approx(0.2)


def test_a_plan_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    here = config(precision="bf16-mixed") | {"data": {"batch_size": 256}}
    said: list[str] = []
    plan = make_plan(here, Machines(DEVICE, 1, 2), ASKED, said.append)
    assert sum(figure.value for figure in plan.parts.values()) == plan.memory["peak"].value
    assert plan.parts["gradient buckets"] == Figure(4 * plan.step["parameters"].value, "bytes", "computed")
    assert plan.fits
    assert plan.memory["largest batch"].value > 256
    step = plan.step["step"].value / 1000
    assert plan.run["images"].value == pytest.approx(256 / step)
    assert plan.run["days"].value == pytest.approx(1_000_000 / 256 * step / 86_400)
    assert plan.run["price"].value == pytest.approx(2 * 2.0 * 1_000_000 / 256 * step / 3600)
    assert list(plan.helps) == [
        "trainer.contrastive_accumulation=4",
        "trainer.activation_checkpointing=all",
        "trainer.strategy=fsdp",
    ]
    assert all(figures["peak"].value < plan.memory["peak"].value for figures in plan.helps.values())
    assert len(said) == 5
    told = as_json(plan)
    assert told["parts"]["activations"]["how"] == "traced"
    assert told["memory"]["usable"]["how"] == "assumed"
    print_plan(plan)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    assert any("trainer.strategy=fsdp" in line for line in lines)


def test_a_model_of_which_no_pair_fits_is_refused() -> None:
    here = config() | {"data": {"batch_size": 64}}
    with pytest.raises(ConfigError, match=r"device: the smallest batch needs 0.0 GB on each made up"):
        make_plan(here, Machines(replace(DEVICE, memory_gb=0.004), 1, 1), ASKED, print)


def test_a_stated_mfu_decides() -> None:
    here = config() | {"data": {"batch_size": 64}}
    plan = make_plan(here, Machines(replace(DEVICE, mfu=0.25), 1, 1), ASKED._replace(alternatives=False), print)
    assert plan.step["share of the device's speed (MFU)"].value == pytest.approx(0.25)


def test_precision_follows_the_device() -> None:
    old = Device("old", 32, 125, False, 16, 900, 150, 12, 0.9, 0.5, 0.5, 0.5)
    assert precision_on(DEVICE, "auto") == "bf16-mixed"
    assert precision_on(old, "auto") == "32-true"
    assert precision_on(old, "16-mixed") == "16-mixed"
    with pytest.raises(ConfigError, match=r"trainer.precision: old has no bfloat16"):
        precision_on(old, "bf16-mixed")


def test_figures_are_shown_in_their_units() -> None:
    assert shown(Figure(2**30, "bytes", "traced")) == "1.00 GiB"
    assert shown(Figure(2**20, "bytes", "traced")) == "1.0 MiB"
    assert shown(Figure(0.256, "share", "computed")) == "26 %"
    assert shown(Figure(1234.5, "money", "computed")) == "1,234.50"
    assert shown(Figure(0.0123456, "ms", "computed")) == "0.0123 ms"
