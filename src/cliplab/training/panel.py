"""A panel of fixed images with the model's answers, drawn at each evaluation; and reference lines for TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont

from cliplab.evaluation.batches import PictureSet
from cliplab.evaluation.result import EvaluationResult
from cliplab.training.trackers import Tracker
from cliplab.training.trackers.tracker import PANELS

CELL, SIDE, COLUMNS, MARGIN = (264, 96), 80, 4, 8
INK, SOFT, RIGHT, WRONG = "#18202c", "#5d6878", "#117a48", "#b3261e"


def fitting(text: str, font: Any, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than ``width`` pixels."""
    length = font.getlength(text)
    if length <= width:
        return text
    text = text[: int(len(text) * width / length) + 2]  # a first estimate
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def draw_panel(pictures: Sequence[Image.Image], lines: Sequence[Sequence[tuple[str, str]]]) -> Image.Image:
    """A grid of pictures, four to a row. Beside each picture stand its lines of (text, colour)."""
    font = ImageFont.load_default(size=13)
    rows = -(-len(pictures) // COLUMNS)
    panel = Image.new("RGB", (CELL[0] * min(COLUMNS, len(pictures)), CELL[1] * rows), "white")
    draw = ImageDraw.Draw(panel)
    for i, (picture, picture_lines) in enumerate(zip(pictures, lines, strict=True)):
        x, y = CELL[0] * (i % COLUMNS) + MARGIN, CELL[1] * (i // COLUMNS) + MARGIN
        panel.paste(picture, (x + (SIDE - picture.width) // 2, y + (SIDE - picture.height) // 2))
        for j, (text, colour) in enumerate(picture_lines):
            place = (x + SIDE + MARGIN, y + 2 + 19 * j)
            draw.text(place, fitting(text, font, CELL[0] - SIDE - 3 * MARGIN), colour, font)
    return panel


class PredictionPanel:
    """Draws the same pictures of a set at each evaluation. It writes ``<run>/zeroshot/panel/<set>-<step>.png`` and hands the
    panel to loggers that take images. The first evaluation chooses ``images`` of them, evenly spread."""

    def __init__(self, run_dir: Path, images: int) -> None:
        self.folder, self.images = run_dir / PANELS, images
        self.chosen: dict[int, Image.Image] = {}

    def _choose(self, dataset: PictureSet, indices: Sequence[int]) -> None:
        count = min(self.images, len(indices))
        for i in range(count):
            picture = dataset.picture(indices[i * len(indices) // count])
            picture.thumbnail((SIDE, SIDE))
            self.chosen[indices[i * len(indices) // count]] = picture

    def show(self, dataset: PictureSet, result: EvaluationResult, loggers: Sequence[Logger], step: int) -> Path:
        """Draw the panel of a result and hand it to the loggers. Returns the path of the file. The result's kind says what
        stands beside a picture."""
        samples = result.samples
        if not self.chosen:
            self._choose(dataset, samples["index"])
        place = {index: row for row, index in enumerate(samples["index"])}
        lines = []
        for row in (place[index] for index in self.chosen):
            card = result.kind.card(result.details, samples, row)
            assert card is not None
            colours = [RIGHT if card.hit else WRONG, SOFT]
            answers = [(f"{a.share:.0%} {a.name}", colour) for a, colour in zip(card.answers, colours, strict=False)]
            lines.append([(card.truth, INK), *answers, (card.place, SOFT)])
        panel = draw_panel(list(self.chosen.values()), lines)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{result.name}-{step:07d}.png"
        panel.save(path, compress_level=1)
        for logger in loggers:
            if isinstance(logger, Tracker):
                logger.show(f"panel/{result.name}", panel, step)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"panel/{result.name}", np.asarray(panel), step, dataformats="HWC")
            elif hasattr(logger, "log_image"):
                logger.log_image(key=f"panel/{result.name}", images=[panel], step=step)
        return path


def log_reference_lines(loggers: Sequence[Logger], results: Sequence[EvaluationResult], model: str, step: int) -> None:
    """Add a chart for each set to TensorBoard's custom scalars: the headline, chance, and the published figures of this
    architecture."""
    charts = {}
    for result in results:
        rows = result.kind.references(result.name, model)
        lines = {f"reference/{result.name}/{r.model} {r.trained_on}": r.acc1 for r in reversed(rows)}
        if "chance" in result.metrics:
            logged = f"{result.kind.group}/{result.name}"
            charts[result.name] = ["Multiline", [f"{logged}/{result.kind.headline}", f"{logged}/chance", *lines]]
        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics(lines, step=step)
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger) and charts:
            logger.experiment.add_custom_scalars({"zero-shot": charts})
