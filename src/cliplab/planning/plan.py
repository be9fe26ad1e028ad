"""What a run needs and takes, as figures that say how they were found."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cliplab.assembly.trainer import module_class
from cliplab.planning.alternatives import alternatives
from cliplab.planning.figures import Figure, How
from cliplab.planning.setting import BUCKETS, Machines, Setting, Texts, pace, prepared_objective, sent, speed
from cliplab.planning.step import Traced
from cliplab.planning.tracer import FLOPS
from cliplab.settings.config import ConfigError

Figures = dict[str, Figure]
DAY = 86_400
SMALLER = "trainer.activation_checkpointing=all, trainer=fsdp on more devices, or trainer.precision=bf16-true"


class Asked(NamedTuple):
    samples: int | None
    price_per_hour: float | None
    alternatives: bool
    texts: Texts


class Plan(NamedTuple):
    """``phase`` of a step has the peak of memory, whose ``parts`` are told. ``helps`` are other settings by what to type."""

    phase: str
    parts: Figures
    memory: Figures
    step: Figures
    run: Figures
    helps: dict[str, Figures]
    fits: bool


def make_plan(config: dict[str, Any], machines: Machines, asked: Asked, say: Callable[[str], None]) -> Plan:
    """``say`` is told what is traced. Raises ConfigError for a model of which not one pair fits, and for what cannot be
    sharded."""
    module_class(config)
    objective = prepared_objective(config)
    setting = Setting(config, machines, asked.texts, objective)
    batch, ranks = config["data"]["batch_size"], machines.ranks
    pairs = batch // ranks
    say("sizes from which the largest batch is computed")
    most = setting.largest()
    if most < setting.chunks:
        need, device = setting.total(setting.traced(setting.chunks)), machines.device
        raise ConfigError(
            f"device: the smallest batch needs {need / 1e9:,.1f} GB on each {device.name}, of which "
            f"{device.usable_bytes / 1e9:,.1f} GB are usable; try {SMALLER}"
        )
    say(f"a step with {pairs} pairs on each device")
    traced = setting.traced(pairs)
    how: How = "traced" if setting.is_traced(pairs) else "computed"
    phase, parts = setting.parts(traced)
    total = sum(parts.values())
    usable = machines.device.usable_bytes
    return Plan(
        phase,
        {name: Figure(size, "bytes", "computed" if name == BUCKETS else how) for name, size in parts.items() if size},
        {
            "peak": Figure(total, "bytes", "computed" if BUCKETS in parts else how),
            "usable": Figure(usable, "bytes", "assumed"),
            "left": Figure(usable - total, "bytes", "computed"),
            "largest batch": Figure(most * ranks, "pairs", "computed"),
            "largest batch of a device": Figure(most, "pairs", "computed"),
        },
        step_figures(setting, traced, pairs),
        run_figures(setting, traced, batch, asked),
        helping(config, machines, asked, objective, say) if asked.alternatives else {},
        total <= usable,
    )


def step_figures(setting: Setting, traced: Traced, pairs: int) -> Figures:
    """Of one step of one device."""
    how: How = "traced" if setting.is_traced(pairs) else "computed"
    time, flops = pace(setting, traced), traced.work[FLOPS]
    of_gradients, of_embeddings = sent(setting, traced)
    return {
        "parameters": Figure(traced.parameters, "", "traced"),
        "operations": Figure(flops / 1e12, "TFLOP", how),
        "sent, weights and gradients": Figure(of_gradients, "bytes", "computed" if setting.has_buckets else how),
        "sent, embeddings": Figure(of_embeddings, "bytes", how),
        "computing": Figure(1000 * time.computing, "ms", "computed"),
        "exchange, weights and gradients": Figure(1000 * time.gradients, "ms", "computed"),
        "exchange, embeddings": Figure(1000 * time.embeddings, "ms", "computed"),
        "step": Figure(1000 * time.step, "ms", "computed"),
        "share of the device's speed (MFU)": Figure(flops / time.step / speed(setting), "share", "computed"),
    }


def run_figures(setting: Setting, traced: Traced, batch: int, asked: Asked) -> Figures:
    rate = batch / pace(setting, traced).step
    figures = {"images": Figure(rate, "a second", "computed")}
    if asked.samples is not None:
        days = asked.samples / rate / DAY
        figures["samples"] = Figure(asked.samples, "pairs", "assumed")
        figures["days"] = Figure(days, "", "computed")
        figures["device hours"] = Figure(24 * days * setting.machines.ranks, "", "computed")
    if asked.price_per_hour is not None:
        price = Figure(asked.price_per_hour * setting.machines.ranks / 3600 / rate * 1e6, "money", "computed")
        figures["price of a million images"] = price
        if asked.samples is not None:
            figures["price"] = Figure(price.value * asked.samples / 1e6, "money", "computed")
    return figures


def helping(
    config: Mapping[str, Any], machines: Machines, asked: Asked, objective: Any, say: Callable[[str], None]
) -> dict[str, Figures]:
    """Of each alternative its peak of memory, what it leaves, and its speed."""
    pairs = config["data"]["batch_size"] // machines.ranks
    found: dict[str, Figures] = {}
    for typed, changed in alternatives(config, machines.ranks, pairs):
        say(typed)
        same = changed["objective"] == config["objective"]
        setting = Setting(changed, machines, asked.texts, objective if same else prepared_objective(changed))
        traced = setting.traced(pairs)
        total = setting.total(traced)
        direct = setting.is_traced(pairs) and not setting.has_buckets
        found[typed] = {
            "peak": Figure(total, "bytes", "traced" if direct else "computed"),
            "left": Figure(machines.device.usable_bytes - total, "bytes", "computed"),
            "images": Figure(pairs * machines.ranks / pace(setting, traced).step, "a second", "computed"),
        }
    return found


def as_json(plan: Plan) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Figure):
            return value._asdict()
        return {key: plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    return {key: plain(value) for key, value in plan._asdict().items()}
