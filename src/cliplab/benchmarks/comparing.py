"""Our model and its peers at the same work: who takes how long, and how much memory."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.contenders import OURS, Contender, ours, peer_of
from cliplab.benchmarks.measuring import Ratio, Work, allocated, in_turn, matrix_speed, peak_bytes
from cliplab.benchmarks.setting import Setting
from cliplab.models.clip import CLIP
from cliplab.models.compiling import compile_towers
from cliplab.settings.build import build

WARM_UP = 3  # runs of each work before it is timed


class Timed(NamedTuple):
    """By name, ours first: seconds of each round, and peak memory in bytes (None where it is not counted). ``operations``
    are those that our model needs; ``speed`` is the device's, in operations a second."""

    seconds: dict[str, list[float]]
    peaks: dict[str, int | None]
    operations: int
    speed: float

    @property
    def others(self) -> list[str]:
        return [name for name in self.seconds if name != OURS]

    def typical(self, name: str) -> float:
        return median(self.seconds[name])

    def share_of_speed(self, name: str) -> float:
        """The operations that are needed, over those the device's matrix products would make in the same time."""
        return self.operations / self.typical(name) / self.speed

    def ratio(self, name: str) -> Ratio:
        """How many times as fast as this one ours is."""
        return Ratio.of(self.seconds[name], self.seconds[OURS])

    def ratios_in_words(self) -> list[str]:
        return [f"{self.ratio(name)} times as fast as {name}" for name in self.others]


class Compared(NamedTuple):
    """The contenders by name, ours first, and what they took. ``too_large`` names the peers that did not fit into the
    device's memory."""

    contenders: dict[str, Contender]
    timed: Timed
    too_large: list[str]


class Ready(NamedTuple):
    """A contender, its work after a warm-up, and the peak memory of that in bytes."""

    contender: Contender
    work: Work
    peak: int | None


def compare(
    config: Mapping[str, Any],
    setting: Setting,
    batch: MadeBatch,
    work_of: Callable[[Contender], Work],
    operations_of: Callable[[Contender], int],
    *,
    peers: Sequence[str],
    rounds: int,
    steps: int,
) -> Compared:
    """Time the work of ours and of each of ``peers`` that is installed and has such towers, in alternation."""
    batch = batch.pinned() if setting.device.type == "cuda" else batch
    model: CLIP = build(config["model"], "model")
    builders: dict[str, Callable[[], Contender | None]] = {
        name: lambda name=name: peer_of(name, config, batch, setting, model)  # type: ignore[misc]
        for name in peers
    }
    builders[OURS] = lambda: ours(config, batch, setting, model)  # last: it moves the model to the device
    found: dict[str, Ready] = {}
    too_large: list[str] = []
    operations = 0
    for name, builder in builders.items():
        before = allocated(setting)
        contender = builder()
        if contender is None:
            continue
        if name == OURS:
            operations = operations_of(contender)
            if config["compile"]:
                assert isinstance(contender.model, CLIP)
                compile_towers(contender.model)
        try:
            found[name] = _ready(contender, work_of, setting, before, compiled=bool(config["compile"]))
        except torch.OutOfMemoryError:
            if name == OURS:
                raise
            too_large.append(name)
            contender.optimizer.zero_grad(set_to_none=True)
    order = [OURS, *(name for name in peers if name in found)]
    seconds = in_turn({name: found[name].work for name in order}, rounds, steps, setting)
    peaks = {name: found[name].peak for name in order}
    timed = Timed(seconds, peaks, operations, matrix_speed(setting))
    return Compared({name: found[name].contender for name in order}, timed, too_large)


def _ready(
    contender: Contender, work_of: Callable[[Contender], Work], setting: Setting, before: int, compiled: bool
) -> Ready:
    """Run the work a few times, the last with its memory counted."""
    work = work_of(contender)
    for _ in range(WARM_UP):
        work()
    counted = setting.device.type == "cuda" or not compiled  # compiled code hides its tensors on a CPU
    return Ready(contender, work, peak_bytes(work, setting, contender.held(), before) if counted else None)


def table(figures: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each figure, one column for each contender; "-" where it has none."""
    return [
        {"figure": figure, **{name: "-" if values.get(name) is None else values[name] for name in names}}
        for figure, values in figures.items()
    ]


def figures_of(timed: Timed, counts: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Milliseconds, ``counts`` (what the work handles) a second, peak memory, and the share of the device's speed."""
    figures: dict[str, dict[str, Any]] = {"ms": {name: 1000 * timed.typical(name) for name in timed.seconds}}
    for what, count in counts.items():
        figures[f"{what}/s"] = {name: count / timed.typical(name) for name in timed.seconds}
    peaks = {name: None if peak is None else peak / 2**20 for name, peak in timed.peaks.items()}
    figures["peak memory, MiB"] = peaks
    shares = {name: 100 * timed.share_of_speed(name) for name in timed.seconds}
    figures["share of the device's matrix products, %"] = shares
    figures[f"{OURS} is times as fast"] = {name: str(timed.ratio(name)) for name in timed.others}
    return figures


def said(compared: Compared, count: float, what: str) -> str:
    """Such as "812 images/s, 54 % of the device's matrix products; 1.65 (1.60 to 1.71) times as fast as open_clip"."""
    timed = compared.timed
    share = timed.share_of_speed(OURS)
    told = f"{count / timed.typical(OURS):,.0f} {what}/s, {share:.0%} of the device's matrix products"
    missing = [f"{name} does not fit into memory" for name in compared.too_large]
    return "; ".join([told, *timed.ratios_in_words(), *missing])


def facts_of(timed: Timed, setting: Setting) -> dict[str, Any]:
    return {
        "device": str(setting),
        "seconds": timed.seconds,
        "peak_bytes": timed.peaks,
        "operations": timed.operations,
        "matrix_products_per_second": timed.speed,
        "ratios": {name: timed.ratio(name)._asdict() for name in timed.others},
    }
