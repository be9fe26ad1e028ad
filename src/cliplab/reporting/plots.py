"""Plots as inline SVG that follow the page's colours, light or dark."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from cliplab.evaluation.blocks import Calibration, Curve
from cliplab.reporting.fonts import without_glyph_warnings

# Colours of the SVG that the page's own replace: of its text, and of its series --c0 to --c5. No plot uses them otherwise.
INK = "#123456"
COLOURS = ["#a1b2c0", "#a1b2c1", "#a1b2c2", "#a1b2c3", "#a1b2c4", "#a1b2c5"]


def svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    """What ``draw`` puts on axes of so many inches, in colours that the page sets."""
    colours = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = dict.fromkeys(colours, INK)
    style |= {"svg.fonttype": "none", "svg.hashsalt": "cliplab", "font.size": 10, "font.family": "sans-serif"}
    style |= {"axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "axes.titlesize": 10}
    with matplotlib.rc_context(style), without_glyph_warnings():
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.6)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for i, colour in enumerate(COLOURS):
        text = text.replace(colour, f"var(--c{i})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: (\d+)px [^;\"]*", r"font-size: \1px", text)  # the page's own font
    return re.sub(r' (xmlns:xlink|xmlns)="[^"]*"', "", text, count=0).replace("xlink:href", "href")


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def curve(block: Curve) -> str:
    """A block's lines, one colour a name, with its level lines."""

    def draw(axes: Any) -> None:
        names = list(dict.fromkeys(line.name for line in block.lines))
        for line in block.lines:
            look: dict[str, Any] = (
                {"linestyle": "--", "linewidth": 1, "alpha": 0.7} if line.dashed else {"linewidth": 1.8}
            )
            label = None if line.dashed else line.name
            axes.plot(line.xs, line.ys, color=colour(names.index(line.name)), label=label, **look)
        for text, value in block.references:
            axes.axhline(value, color=INK, linewidth=0.8, linestyle=":")
            place: dict[str, Any] = {"ha": "right", "size": 8, "parse_math": False}
            axes.annotate(text, (1, value), (0, 2), ("axes fraction", "data"), "offset points", **place)
        axes.set(xlabel=block.x, ylabel=block.y)
        if block.limits:
            axes.set(ylim=block.limits)
        if "samples" in block.x:
            axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        for text in axes.legend(frameon=False, fontsize=9).get_texts():
            text.set_parse_math(False)

    return svg(draw, 4.8, 3.0)


def line_plot(title: str, steps: Sequence[float], values: Sequence[float], log: bool = False) -> str:
    """One logged value against the step."""

    def draw(axes: Any) -> None:
        axes.plot(steps, values, color=colour(0), linewidth=1.5)
        axes.set_title(title, loc="left")
        axes.set(xlabel="step")
        if log:
            axes.set_yscale("log")

    return svg(draw, 2.7, 1.9)


def calibration(block: Calibration) -> str:
    """Accuracy against confidence, one bar per bin, with the share of the images below; the diagonal is perfect."""

    def draw(axes: Any) -> None:
        bins = block.bins
        n, total = len(bins), sum(b[0] for b in bins)
        centres = [(i + 0.5) / n for i in range(n)]
        axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=0.8)
        axes.bar(centres, [b[1] / b[0] if b[0] else 0 for b in bins], width=0.9 / n, color=colour(0), alpha=0.85)
        axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        axes.tick_params(labelbottom=False)
        below = axes.inset_axes((0, -0.3, 1, 0.22))
        below.bar(centres, [b[0] / total for b in bins], width=0.9 / n, color=colour(5))
        below.spines[["top", "right"]].set_visible(False)
        below.set(xlabel="confidence", xlim=(0, 1), yticks=[0, round(max(b[0] for b in bins) / total, 2)])
        below.tick_params(labelsize=8)

    return svg(draw, 3.8, 3.6)
