"""How fast each setting of a sweep learns: a figure against images seen and against seconds of training, and what a setting
needs to reach a value (Radford et al. 2021, figure 2)."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.ticker import LogLocator

from cliplab.evaluation.blocks import Cell, Column, Row, Table
from cliplab.reporting.plots import INK, colour, svg
from cliplab.reporting.sweep.drawings import short
from cliplab.reporting.sweep.spread import spread


class Point(NamedTuple):
    """One evaluation of a run."""

    images: float
    seconds: float
    value: float


class Pace(NamedTuple):
    """The evaluations of the runs of one setting, one list for each seed, each in the order of training."""

    label: str
    runs: Sequence[Sequence[Point]]

    def common(self) -> list[list[Point]]:
        """Of each number of images that every run was evaluated at, the point of each run. The start is left out."""
        by_images = [{point.images: point for point in run if point.images > 0} for run in self.runs]
        shared = sorted(set.intersection(*map(set, by_images))) if by_images else []
        return [[run[images] for run in by_images] for images in shared]

    @property
    def best(self) -> float:
        """The highest mean over the seeds."""
        return max((fmean(point.value for point in points) for points in self.common()), default=-math.inf)


def reached(run: Sequence[Point], level: float) -> Point | None:
    """Where a run first has this value: between two evaluations on a straight line over the logarithm of images. None when
    it never has it."""
    before: Point | None = None
    for point in run:
        if point.value >= level:
            if before is None or before.images <= 0 or point.value == before.value:
                return point
            share = (level - before.value) / (point.value - before.value)
            images = before.images * (point.images / before.images) ** share
            along = (images - before.images) / (point.images - before.images)
            return Point(images, before.seconds + along * (point.seconds - before.seconds), level)
        before = point
    return None


def needed(pace: Pace, level: float) -> tuple[float, float] | None:
    """Images and seconds to this value, geometric means over the seeds; None when a seed does not get there."""
    points = [reached(run, level) for run in pace.runs]
    if not points or any(point is None or point.images <= 0 for point in points):
        return None
    logs = [(math.log(p.images), math.log(max(p.seconds, 1e-9))) for p in points if p is not None]
    return math.exp(fmean(x for x, _ in logs)), math.exp(fmean(y for _, y in logs))


def common_level(paces: Sequence[Pace]) -> float:
    """The highest value that every run of every setting reaches, rounded down to a thousandth."""
    tops = [max((point.value for point in run), default=0.0) for pace in paces for run in pace.runs]
    return math.floor(min(tops, default=0.0) * 1000) / 1000


def _levels(paces: Sequence[Pace], target: float) -> list[float]:
    """The target, and the highest value that all settings reach where the target is above it."""
    shared = common_level(paces)
    return [target] if shared >= target or shared <= 0 else [target, shared]


def _counted(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:.3g} M"


def table(paces: Sequence[Pace], target: float) -> Table:
    """For each setting the images and the seconds to the target, and how many times those of the fastest setting."""
    columns, rows = [Column("setting", False)], [[Cell(pace.label, strong=True)] for pace in paces]
    for level in _levels(paces, target):
        found = [needed(pace, level) for pace in paces]
        columns += [Column(f"images to {level:.1%}"), Column("times the fewest"), Column("seconds"), Column("times")]
        for row, pace, one in zip(rows, paces, found, strict=True):
            if one is None:
                row += [Cell(f"not reached (best {pace.best:.1%})", soft=True), Cell(), Cell(), Cell()]
                continue
            for place, text in ((0, _counted(one[0])), (1, f"{one[1]:,.0f}")):
                least = min(other[place] for other in found if other is not None)
                row += [Cell(text, one[place]), Cell(f"{one[place] / least:.2g} x", one[place] / least)]
    return Table(columns, [Row(row) for row in rows], sortable=True)


def sentences(paces: Sequence[Pace], target: float) -> list[str]:
    """Which setting reaches each level with the fewest images, and what part of the others' images that is."""
    told = []
    for level in _levels(paces, target):
        found = [(one[0], pace.label) for pace in paces if (one := needed(pace, level)) is not None]
        if len(found) < 2:
            continue
        least, name = min(found)
        others = ", ".join(
            f"1/{images / least:.2g} of those of {label}" for images, label in sorted(found) if label != name
        )
        told.append(f"{name} reaches {level:.1%} with {_counted(least)} images: {others}.")
    return told


def drawing(paces: Sequence[Pace], ylabel: str, *, seconds: bool) -> str:
    """The mean of each setting with its 95 % interval over seeds (Student), over a logarithmic axis."""

    def draw(axes: Any) -> None:
        for place, pace in enumerate(paces):
            points = pace.common()
            xs = [fmean(p.seconds if seconds else p.images for p in at) for at in points]
            spreads = [spread([p.value for p in at]) for at in points]
            axes.plot(
                xs, [s.mean for s in spreads], "o-", color=colour(place), markersize=3, label=short(pace.label, 44)
            )
            if all(s.low is not None for s in spreads) and spreads:
                low, high = ([getattr(s, end) for s in spreads] for end in ("low", "high"))
                axes.fill_between(xs, low, high, color=colour(place), alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            which(lambda x, _: _counted(x) if x >= 1 else f"{x:g}")
        axes.tick_params(axis="x", which="both", labelsize=8)
        axes.set(xlabel="seconds of training" if seconds else "images seen", ylabel=short(ylabel, 40))
        axes.grid(axis="x", color=INK, alpha=0.15, linewidth=0.6)
        for text in axes.legend(frameon=False, fontsize=8).get_texts():
            text.set_parse_math(False)

    return svg(draw, 5.4, 3.7)


def section(paces: Sequence[Pace], target: float | None, metric: str, notes: Sequence[str]) -> dict[str, Any]:
    """What the page shows; empty without a target or without two evaluations of a setting."""
    drawn = [pace for pace in paces if len(pace.common()) > 1]
    if target is None or not drawn:
        return {}
    return {
        "plots": [drawing(drawn, metric, seconds=False), drawing(drawn, metric, seconds=True)],
        "table": table(drawn, target),
        "sentences": sentences(drawn, target),
        "notes": notes,
    }
