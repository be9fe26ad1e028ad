"""Draw predictions: each image next to bars for its most probable labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt

from cliplab.data.images import decode_image
from cliplab.reporting.fonts import families, without_glyph_warnings

BARS, COLUMNS = 5, 3


def prediction_sheet(path: Path, rows: Sequence[tuple[Any, str, np.ndarray]], labels: Sequence[str]) -> None:
    """Write a PNG with three predictions to a line. ``rows`` are (image, id, probabilities). Names may be in any script."""
    with matplotlib.rc_context({"font.family": families()}), without_glyph_warnings():
        _draw_sheet(path, rows, labels)


def _draw_sheet(path: Path, rows: Sequence[tuple[Any, str, np.ndarray]], labels: Sequence[str]) -> None:
    lines = -(-len(rows) // COLUMNS)
    figure, axes = plt.subplots(
        lines, 2 * COLUMNS, figsize=(4.6 * COLUMNS, 1.9 * lines), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, (image, name, shares) in enumerate(rows):
        picture, bars = axes[i // COLUMNS, 2 * (i % COLUMNS) : 2 * (i % COLUMNS) + 2]
        small = decode_image(image)
        small.thumbnail((256, 256))
        picture.imshow(np.asarray(small))
        picture.set_title(name if len(name) < 30 else "…" + name[-29:], fontsize=7, parse_math=False)
        best = np.argsort(-shares, kind="stable")[:BARS]
        bars.barh(range(len(best)), shares[best], color="#a9c1ee", height=0.6)
        bars.set(xlim=(0, 1), ylim=(BARS - 0.5, -0.5))
        for y, k in enumerate(best):
            text = f"{100 * shares[k]:.0f} % {labels[k]}"
            bars.text(0.02, y, text, fontsize=7, va="center", parse_math=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
