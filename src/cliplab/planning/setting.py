"""One setting of a run, traced: what it holds on each device and what its steps take."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from cliplab.benchmarks.batch import QUANTILES
from cliplab.objectives.objective import Corpus, Objective
from cliplab.planning.device import Device
from cliplab.planning.scaling import Scaled, Size, largest, sizes_to_trace
from cliplab.planning.step import Traced, Workload, trace
from cliplab.planning.tracer import FLOPS, SECONDS, SENT_EMBEDDINGS, SENT_GRADIENTS
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError

BUCKETS = "gradient buckets"
MOST_CHUNKS, MOST_BLOCKS = 4, 512  # beyond, a step is computed from smaller ones


class Machines(NamedTuple):
    """What is rented: nodes, and devices in all."""

    device: Device
    nodes: int
    ranks: int


class Texts(NamedTuple):
    mean_tokens: float
    spread: float


def prepared_objective(config: Mapping[str, Any]) -> Objective:
    """Raises ConfigError for an objective that reads training captions first."""
    objective: Objective = build(config["objective"], "objective")
    if type(objective).prepare is not Objective.prepare:
        objective.prepare(Corpus(_no_captions, build(config["tokenizer"], "tokenizer")))
    return objective


def _no_captions(count: int) -> Any:
    raise ConfigError(
        "objective: this one makes a dictionary of the training captions before its first step, and task=plan reads none; "
        "plan with objective=clip or siglip"
    )


class Setting:
    """A config on machines, with the sizes that were traced so far."""

    def __init__(self, config: dict[str, Any], machines: Machines, texts: Texts, objective: Objective) -> None:
        self.config, self.machines = config, machines
        self.chunks: int = config["trainer"].get("contrastive_accumulation", 1)
        self.block_size: int | None = config["objective"].get("block_size")
        device = machines.device
        self.work = Workload(config, objective, machines.ranks, *texts, packed=device.bfloat16, pace=device.seconds)

    def traced(self, pairs: int) -> Traced:
        """A step of a rank with so many pairs: traced itself, or computed from smaller ones where that would take long."""
        return trace(self.work, pairs) if self.is_traced(pairs) else self.scaled.at(Size(pairs, self.chunks))

    def is_traced(self, pairs: int) -> bool:
        blocks = self.machines.ranks * (pairs / self.block_size) ** 2 if self.block_size else 0
        return self.chunks <= MOST_CHUNKS and blocks <= MOST_BLOCKS

    @functools.cached_property
    def scaled(self) -> Scaled:
        unit = QUANTILES * math.ceil((self.block_size or 1) / QUANTILES)
        return Scaled(
            {
                size: trace(self.work._replace(config=self._with(size.chunks)), size.pairs)
                for size in sizes_to_trace(unit, self.chunks)
            }
        )

    def _with(self, chunks: int) -> dict[str, Any]:
        return {**self.config, "trainer": {**self.config["trainer"], "contrastive_accumulation": chunks}}

    def largest(self) -> int:
        """The most pairs of one rank that fit into its memory."""
        return largest(
            lambda pairs: self.total(self.scaled.at(Size(pairs, self.chunks))) <= self.machines.device.usable_bytes
        )

    @property
    def has_buckets(self) -> bool:
        """DDP keeps the gradients once more, in the buckets that it sends."""
        return self.machines.ranks > 1 and self.config["trainer"]["strategy"] != "fsdp"

    def parts(self, traced: Traced) -> tuple[str, dict[str, float]]:
        """The phase of a step with the highest peak, and its parts."""
        phase = max(traced.peaks, key=lambda phase: sum(traced.peaks[phase].values()))
        buckets = {BUCKETS: float(traced.gradients)} if self.has_buckets else {}
        return phase, {**traced.peaks[phase], **buckets}

    def total(self, traced: Traced) -> float:
        return sum(self.parts(traced)[1].values())


class Pace(NamedTuple):
    """Seconds of a step: of its operations, of exchanging weights and gradients, of exchanging embeddings."""

    computing: float
    gradients: float
    embeddings: float

    @property
    def step(self) -> float:
        """Weights and gradients travel while others are computed."""
        return max(self.computing, self.gradients) + self.embeddings


def sent(setting: Setting, traced: Traced) -> tuple[float, float]:
    """Bytes that a rank sends in a step, for weights and gradients and for embeddings. DDP's are computed: each gradient
    goes round the ranks twice."""
    ranks = setting.machines.ranks
    buckets = 2 * traced.gradients * (ranks - 1) / ranks if setting.has_buckets else 0
    return traced.work.get(SENT_GRADIENTS, 0) + buckets, traced.work.get(SENT_EMBEDDINGS, 0)


def pace(setting: Setting, traced: Traced) -> Pace:
    device, nodes = setting.machines.device, setting.machines.nodes
    computing = traced.work[SECONDS]
    if device.mfu is not None:
        computing = traced.work[FLOPS] / (device.mfu * speed(setting))
    gradients, embeddings = (device.seconds_to_send(x, nodes) for x in sent(setting, traced))
    return Pace(computing, gradients, embeddings)


def speed(setting: Setting) -> float:
    """Of matrix products in the precision of the run, in operations a second."""
    device = setting.machines.device
    half = "16" in str(setting.config["trainer"]["precision"])
    return 1e12 * (device.half_tflops if half else device.single_tflops)


def precision_on(device: Device, asked: Any) -> str:
    """Raises ConfigError for bfloat16 on a device without it."""
    if asked == "auto":
        return "bf16-mixed" if device.bfloat16 else "32-true"
    if str(asked).startswith("bf16") and not device.bfloat16:
        raise ConfigError(
            f"trainer.precision: {device.name} has no bfloat16, which {asked!r} computes in; use 16-mixed, or 32-true"
        )
    return str(asked)
