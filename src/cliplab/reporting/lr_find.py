"""The page of a learning-rate range test."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliplab.files import whole_file
from cliplab.reporting.pages import render
from cliplab.reporting.plots import colour, svg


def range_plot(rates: Sequence[float], losses: Sequence[float], marks: Sequence[tuple[str, float]]) -> str:
    """The loss against the rate, with upright lines at some rates."""
    points = [(rate, loss) for rate, loss in zip(rates, losses, strict=True) if math.isfinite(loss)]

    def draw(axes: Any) -> None:
        if points:
            axes.plot(*zip(*points, strict=True), color=colour(0), linewidth=1.6)
            lowest, first = min(loss for _, loss in points), points[0][1]
            axes.set_ylim(lowest - 0.1 * (first - lowest + 0.1), first + 0.6 * (first - lowest + 0.1))
        for number, (name, rate) in enumerate(marks, 1):
            axes.axvline(rate, color=colour(number), linewidth=1.4, linestyle="--", label=f"{name}: {rate:.2g}")
        axes.set_xscale("log")
        axes.set(xlabel="learning rate", ylabel="training loss")
        axes.legend(frameon=False, fontsize=9)

    return svg(draw, 6.4, 3.8)


def write_range_test(
    folder: Path,
    name: str,
    rates: Sequence[float],
    losses: Sequence[float],
    marks: Sequence[tuple[str, float]],
    words: str,
) -> Path:
    """Write ``lr_find.html`` and return its path."""
    path = folder / "lr_find.html"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(
            render(
                "lr_find.html.jinja", name=name, steps=len(losses), plot=range_plot(rates, losses, marks), words=words
            )
        )
    return path
