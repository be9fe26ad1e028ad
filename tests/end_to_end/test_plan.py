"""task=plan by its command: what it writes, and what it refuses before anything is traced."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = ["task=plan", "experiment=emoji", "optimizer=adamw", "trainer=ddp", "trainer.devices=2", "device=l4-24gb"]


def test_command(command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    lasting = ["trainer.max_steps=100", "task.price_per_hour=1", "task.alternatives=false", f"out={out}"]
    assert command(*SMALL, *lasting) == 0
    plan = json.loads(out.read_text())
    assert plan["device"]["name"] == "NVIDIA L4, 24 GB"
    assert plan["asked"]["precision"] == "bf16-mixed"
    assert plan["run"]["samples"] == {"value": 25_600, "unit": "pairs", "how": "assumed"}
    assert plan["run"]["price"]["value"] > 0
    assert {part["how"] for part in plan["parts"].values()} == {"traced", "computed"}
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(out)
    assert "tracing a step with 128 pairs on each device" in told.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["device=none"], "device: choose what is rented, such as device=h100-80gb"),
        (["device=h200"], "h200"),
        (["trainer.devices=-1"], "trainer.devices: -1 is what a machine has, and none is rented yet"),
        (
            ["data.batch_size=255"],
            "data.batch_size: 255 is the batch of all 2 processes and not a multiple of 2; set 254",
        ),
        (["task.samples=0"], "task.samples: 0 must be 1 or more"),
        (["task.price_per_hour=-1"], "task.price_per_hour: -1 must be 0 or more"),
        (["trainer.precision=64-true"], "trainer.precision: '64-true' is not planned"),
        (["trainer.strategy=deepspeed"], "trainer.strategy: 'deepspeed' is not planned; use ddp or fsdp"),
        (["trainer=fsdp", "trainer.devices=2", "optimizer=muon"], "optimizer: Muon works on whole parameters"),
        (["device.memory_gb=0"], "device.memory_gb: 0 must be above 0"),
    ],
)
def test_mistakes(typed: list[str], said: str, command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*SMALL, *typed) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "tracing" not in error
