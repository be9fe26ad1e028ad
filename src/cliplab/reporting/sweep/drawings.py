"""Plots of a sweep, as inline SVG in the page's colours."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from cliplab.reporting.plots import INK, colour, svg
from cliplab.reporting.sweep.jobs import number

DECADE, FEW_TICKS, MOST_BOLD, MOST_POINTS, NARROW = 10, 6, 5, 120, 22
GREY = 5  # the number of the page's quiet colour


class Series(NamedTuple):
    """A learning curve. ``place`` is the rank of its setting, from 0, among those drawn in colour; None for the others."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    place: int | None = None


def short(text: str, most: int = NARROW) -> str:
    """The text, with its middle left out where it is long."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2 - 1) :]}"


def _numbers(texts: Sequence[str]) -> list[float] | None:
    values = [number(text) for text in texts]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _is_wide(values: Sequence[float]) -> bool:
    """Whether numbers spread over decades, rather than evenly, so that their axis must be logarithmic."""
    low, high, distinct = min(values), max(values), sorted(set(values))
    if low <= 0 or high / low < DECADE:
        return False
    return len(distinct) <= FEW_TICKS or distinct[len(distinct) // 2] - low < 0.25 * (high - low)


def _say(value: float) -> str:
    return f"{value:.4g}"


def against(name: str, texts: Sequence[str], values: Sequence[float], ylabel: str) -> str:
    """Each job's figure against one setting, with the mean at each of few values."""
    numbers = _numbers(texts)
    distinct = sorted(set(numbers)) if numbers else list(dict.fromkeys(texts))
    xs: Sequence[float] = numbers or [distinct.index(text) for text in texts]  # type: ignore[arg-type]
    places = distinct if numbers else range(len(distinct))

    def draw(axes: Any) -> None:
        axes.plot(xs, values, "o", color=colour(0), alpha=0.55 if len(xs) < 60 else 0.3, markersize=5, mew=0)
        if len(distinct) <= len(xs) / 2:
            means = [fmean([v for x, v in zip(xs, values, strict=True) if x == place]) for place in places]
            axes.plot(
                places, means, "-" if numbers else "", marker="_", color=colour(1), markersize=14, mew=2, linewidth=1
            )
        if numbers and _is_wide(numbers):
            axes.set_xscale("log")
            axes.minorticks_off()
        if not numbers or len(distinct) <= FEW_TICKS:
            labels = [_say(x) if isinstance(x, float) else short(x) for x in distinct]
            slanted = sum(map(len, labels)) > 34
            axes.set_xticks(list(places), labels, rotation=25 if slanted else 0, ha="right" if slanted else "center")
        axes.set(xlabel=name, ylabel=short(ylabel, 34))
        axes.margins(x=0.1, y=0.1)

    return svg(draw, 3.7, 2.7)


class _Axis(NamedTuple):
    """Heights in [0, 1] by job, and the labels at some heights."""

    title: str
    heights: Sequence[float]
    labels: Sequence[tuple[float, str]]


def _axis(title: str, texts: Sequence[str]) -> _Axis:
    numbers = _numbers(texts)
    if numbers is None or len(set(numbers)) < 2:
        distinct = list(dict.fromkeys(texts))
        height = {text: (i + 0.5) / len(distinct) for i, text in enumerate(distinct)}
        return _Axis(
            title, [height[text] for text in texts], [(height[text], short(text, 16)) for text in distinct[:12]]
        )
    scale = math.log if _is_wide(numbers) else float
    low, high = scale(min(numbers)), scale(max(numbers))
    at = {value: (scale(value) - low) / (high - low) for value in sorted(set(numbers))}
    shown = list(at) if len(at) <= FEW_TICKS else [min(at), max(at)]
    return _Axis(title, [at[value] for value in numbers], [(at[value], _say(value)) for value in shown])


def parallel(columns: Mapping[str, Sequence[str]], values: Sequence[float], title: str, maximise: bool) -> str:
    """Jobs as lines through their settings to the figure they reached. The best lines are drawn last, in another colour."""
    axes_of = [_axis(short(name, 18), texts) for name, texts in columns.items()]
    axes_of.append(_axis(short(title, 18), [repr(value) for value in values]))
    order = sorted(range(len(values)), key=lambda job: values[job] if maximise else -values[job])
    bold = max(1, min(MOST_BOLD, len(order) // 4))

    def draw(axes: Any) -> None:
        for i, axis in enumerate(axes_of):
            axes.axvline(i, color=INK, linewidth=0.7)
            for y, label in axis.labels:
                axes.annotate(label, (i, y), (5, 0), textcoords="offset points", size=8, va="center", parse_math=False)
        for rank, job in enumerate(order):
            best = rank >= len(order) - bold
            share = rank / max(1, len(order) - 1)
            look = {"color": colour(1), "linewidth": 1.8} if best else {"color": colour(0), "linewidth": 0.9}
            axes.plot([axis.heights[job] for axis in axes_of], alpha=1 if best else 0.12 + 0.5 * share, **look)
        names = [axis.title for axis in axes_of]
        axes.set_xticks(range(len(names)), names)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set(yticks=[], ylim=(-0.04, 1.04), xlim=(-0.08, len(names) - 0.45))
        axes.grid(False)
        axes.spines[["left", "bottom"]].set_visible(False)

    return svg(draw, min(11.5, max(4.5, 1.9 * len(axes_of))), 3.6)


def _thinned(points: Sequence[float]) -> list[float]:
    """At most so many of them, evenly spread, the last included."""
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def learning_curves(series: Sequence[Series], ylabel: str) -> str:
    """All jobs in grey, those of the best settings in colour over them."""

    def draw(axes: Any) -> None:
        seen = set()
        for line in sorted(series, key=lambda line: -1 if line.place is None else 1):
            if line.place is None:
                look: dict[str, Any] = {"color": colour(GREY), "alpha": 0.35, "linewidth": 0.8}
            else:
                look = {"color": colour(line.place), "linewidth": 1.5, "zorder": 9 - line.place}
                look["label"] = short(line.name, 44) if line.name not in seen else None
                seen.add(line.name)
            axes.plot(_thinned(line.xs), _thinned(line.ys), **look)
        axes.set(xlabel="step", ylabel=short(ylabel, 44))
        if seen:
            for text in axes.legend(frameon=False, fontsize=8).get_texts():
                text.set_parse_math(False)

    return svg(draw, 6.6, 3.7)


def front(points: Sequence[tuple[float, float]], best: Sequence[tuple[float, float]], names: tuple[str, str]) -> str:
    """Two metrics against each other, with the jobs that none is better than joined by a line."""

    def draw(axes: Any) -> None:
        axes.plot(*zip(*points, strict=True), "o", color=colour(GREY), alpha=0.6, markersize=5, mew=0)
        axes.plot(*zip(*sorted(best), strict=True), "o-", color=colour(1), markersize=6, linewidth=1.2)
        axes.set(xlabel=short(names[0], 44), ylabel=short(names[1], 36))
        axes.margins(0.1)

    return svg(draw, 5.4, 3.6)
