"""A fixed panel of images with the model's answers, at each evaluation; and what TensorBoard shows beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont

from cliplab.evaluation.result import EvaluationResult

CELL, SIDE, COLUMNS, MARGIN = (264, 96), 80, 4, 8
INK, SOFT, RIGHT, WRONG = "#18202c", "#5d6878", "#117a48", "#b3261e"


def fitting(text: str, font: Any, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than ``width`` pixels."""
    length = font.getlength(text)
    if length <= width:
        return text
    text = text[: int(len(text) * width / length) + 2]  # nearly there at once
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def draw_panel(pictures: Sequence[Image.Image], lines: Sequence[Sequence[tuple[str, str]]]) -> Image.Image:
    """A grid of pictures, four a row, each with its own lines of (text, colour) beside it."""
    font = ImageFont.load_default(size=13)
    rows = -(-len(pictures) // COLUMNS)
    panel = Image.new("RGB", (CELL[0] * min(COLUMNS, len(pictures)), CELL[1] * rows), "white")
    draw = ImageDraw.Draw(panel)
    for i, (picture, own) in enumerate(zip(pictures, lines, strict=True)):
        x, y = CELL[0] * (i % COLUMNS) + MARGIN, CELL[1] * (i // COLUMNS) + MARGIN
        panel.paste(picture, (x + (SIDE - picture.width) // 2, y + (SIDE - picture.height) // 2))
        for j, (text, colour) in enumerate(own):
            place = (x + SIDE + MARGIN, y + 2 + 19 * j)
            draw.text(place, fitting(text, font, CELL[0] - SIDE - 3 * MARGIN), colour, font)
    return panel


class PredictionPanel:
    """The same ``images`` pictures of a set at each evaluation, chosen evenly the first time, as
    ``<run>/zeroshot/panel/<set>-<step>.png`` and in loggers that take images."""

    def __init__(self, run_dir: Path, images: int) -> None:
        self.folder, self.images = run_dir / "zeroshot" / "panel", images
        self.chosen: dict[int, Image.Image] = {}

    def _choose(self, dataset: Any, indices: Sequence[int]) -> None:
        count = min(self.images, len(indices))
        for i in range(count):
            picture = dataset.picture(indices[i * len(indices) // count])
            picture.thumbnail((SIDE, SIDE))
            self.chosen[indices[i * len(indices) // count]] = picture

    def show(self, dataset: Any, result: EvaluationResult, loggers: Sequence[Logger], step: int) -> Path:
        """Draw the panel of a result, as its kind tells each picture's answers, and hand it on; the path of the file is
        returned."""
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
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"panel/{result.name}", np.asarray(panel), step, dataformats="HWC")
            elif hasattr(logger, "log_image"):
                logger.log_image(key=f"panel/{result.name}", images=[panel], step=step)
        return path


def log_reference_lines(loggers: Sequence[Logger], results: Sequence[EvaluationResult], model: str, step: int) -> None:
    """In TensorBoard's custom scalars, one chart a set: the headline, chance, and what is published for this
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
