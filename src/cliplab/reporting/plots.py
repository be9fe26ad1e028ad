"""Plots as inline SVG that follow the page's colours."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

INK = "#123456"  # stands for the page's text colour until the SVG is done


def _svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    colours = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = dict.fromkeys(colours, INK)
    style |= {"svg.fonttype": "none", "svg.hashsalt": "cliplab", "font.size": 10, "font.family": "sans-serif"}
    with matplotlib.rc_context(style):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25, linewidth=0.5)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r' (xmlns:xlink|xmlns)="[^"]*"', "", text, count=0).replace("xlink:href", "href")


def accuracy_curves(history: Sequence[dict[str, Any]]) -> str:
    """Top-1 and top-5 against epoch, one pair of lines per set."""

    def draw(axes: Any) -> None:
        for i, name in enumerate(dict.fromkeys(line["set"] for line in history if "acc1" in line["metrics"])):
            lines = [line for line in history if line["set"] == name]
            epochs = [line["epoch"] for line in lines]
            colour = f"C{i}"
            axes.plot(epochs, [100 * x["metrics"]["acc1"] for x in lines], color=colour, label=f"{name}, top-1")
            axes.plot(epochs, [100 * x["metrics"]["acc5"] for x in lines], "--", color=colour, label=f"{name}, top-5")
        axes.set(xlabel="epoch", ylabel="accuracy, %", ylim=(0, 100))
        axes.legend(frameon=False, fontsize=9)

    return _svg(draw, 7.2, 3.4)


def reliability(bins: Sequence[Sequence[float]]) -> str:
    """Accuracy against confidence, one bar per bin; the diagonal is perfect calibration."""

    def draw(axes: Any) -> None:
        n = len(bins)
        axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=0.8)
        axes.bar(
            [(i + 0.5) / n for i in range(n)], [b[1] / b[0] if b[0] else 0 for b in bins], width=0.9 / n, alpha=0.8
        )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))

    return _svg(draw, 3.6, 3.2)
