"""task=plan: what a run needs on rented devices, traced without values: memory, time, exchange, price."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from cliplab.rules import Count, NonNegative, Positive
from cliplab.settings.build import build
from cliplab.settings.check_data import check_shares
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome
from cliplab.settings.length import samples_of

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true")


class Options(TypedDict):
    samples: Count | None
    price_per_hour: NonNegative | None
    alternatives: bool
    mean_tokens: Positive
    spread: NonNegative


def check(job: Job) -> None:
    """Raises ConfigError for a run that cannot be planned."""
    config, trainer = job.config, job.config["trainer"]
    if not config.get("device"):
        raise ConfigError("device: choose what is rented, such as device=h100-80gb; configs/device has them")
    if trainer["strategy"] not in ("auto", "fsdp") and not str(trainer["strategy"]).startswith("ddp"):
        raise ConfigError(f"trainer.strategy: {trainer['strategy']!r} is not planned; use ddp or fsdp")
    if str(trainer["precision"]) not in PRECISIONS:
        raise ConfigError(f"trainer.precision: {trainer['precision']!r} is not planned; use {', '.join(PRECISIONS)}")
    trainer["devices"] = devices_of(trainer)
    check_shares(config["data"]["batch_size"], trainer)
    if config["data"]["batch_size"] < trainer["devices"] * trainer["num_nodes"]:
        raise ConfigError("data.batch_size: it has fewer pairs than there are devices")


def devices_of(trainer: Mapping[str, Any]) -> int:
    """Of each node. Raises ConfigError where only the machine would tell."""
    devices = trainer["devices"]
    if isinstance(devices, list):
        return len(devices)
    if str(devices).isdecimal():
        return int(devices)
    raise ConfigError(
        f"trainer.devices: {devices!r} is what a machine has, and none is rented yet; set trainer.devices=8"
    )


def run(job: Job) -> Outcome:
    """Print the plan and write it as JSON. Returns the path of that file."""
    from cliplab.assembly.process import quiet
    from cliplab.planning.plan import Asked, as_json, make_plan
    from cliplab.planning.screen import print_plan
    from cliplab.planning.setting import Machines, Texts, precision_on
    from cliplab.reporting.results import write_json

    config, task = job.config, job.config["task"]
    quiet()
    trainer, nodes = config["trainer"], config["trainer"]["num_nodes"]
    machines = Machines(build(config["device"], "device"), nodes, nodes * devices_of(trainer))
    trainer["precision"] = precision_on(machines.device, trainer["precision"])
    samples = task["samples"] or samples_of(config)
    texts = Texts(task["mean_tokens"], task["spread"])
    plan = make_plan(config, machines, Asked(samples, task["price_per_hour"], task["alternatives"], texts), _say)
    print_plan(plan)
    if samples is None:
        print(
            "task.samples=… says for how many pairs the days and the price are; the length of these data is not known here"
        )
    path = Path(config["out"]).expanduser() if config["out"] else job.run_dir / "plan.json"
    described = {key: trainer[key] for key in ("num_nodes", "devices", "strategy", "precision")}
    asked = {"name": config["name"], "typed": list(job.typed), "batch_size": config["data"]["batch_size"], **described}
    write_json(path, {"asked": asked, "device": config["device"], **as_json(plan)})
    return Outcome(path)


def _say(what: str) -> None:
    print(f"tracing {what}", file=sys.stderr, flush=True)
