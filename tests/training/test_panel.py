"""The panel of predictions: the same images each time, in the run folder and in TensorBoard beside the reference lines."""

from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageFont
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cliplab.evaluation.kinds import zero_shot
from cliplab.evaluation.result import EvaluationResult
from cliplab.training.panel import CELL, PredictionPanel, fitting, log_reference_lines


class Pictures:
    def __init__(self) -> None:
        self.asked: list[int] = []

    def picture(self, index: int) -> Image.Image:
        self.asked.append(index)
        return Image.new("RGB", (200, 100), (index, 0, 0))


def result(indices: list[int], rank: int = 0, name: str = "imagenet") -> EvaluationResult:
    samples = {
        "index": indices,
        "label": [0 for _ in indices],
        "rank": [rank for _ in indices],
        "top5": [[0, 1] for _ in indices],
        "top5_probability": [[0.9, 0.1] for _ in indices],
    }
    details = {"class_names": ["cat", "a dog with a very long name that does not fit"]}
    return EvaluationResult(name, zero_shot.KIND, {"acc1": 0.5, "chance": 0.5}, "", details, samples)


def test_panel_keeps_its_images_and_shows_changed_answers(tmp_path: Path) -> None:
    dataset, panel = Pictures(), PredictionPanel(tmp_path, images=4)
    first = panel.show(dataset, result(list(range(0, 40, 2))), [], step=0)
    again = panel.show(dataset, result(list(range(40))), [], step=7)  # the whole set after a subset
    wrong = panel.show(dataset, result(list(range(40)), rank=1), [], step=8)
    assert dataset.asked == [0, 10, 20, 30]
    assert first == tmp_path / "zeroshot" / "panel" / "imagenet-0000000.png"
    assert Image.open(first).size == (4 * CELL[0], CELL[1])
    assert Image.open(again).tobytes() == Image.open(first).tobytes() != Image.open(wrong).tobytes()


def test_small_set_fills_a_small_panel(tmp_path: Path) -> None:
    path = PredictionPanel(tmp_path, images=16).show(Pictures(), result([3, 5]), [], step=1)
    assert Image.open(path).size == (2 * CELL[0], CELL[1])


def test_text_is_cut_to_its_width() -> None:
    font = ImageFont.load_default(size=13)
    assert fitting("cat", font, 100) == "cat"
    cut = fitting("a name that is far too long", font, 100)
    assert cut.endswith("…")
    assert font.getlength(cut) <= 100


def test_tensorboard_gets_the_panel_and_the_reference_lines(tmp_path: Path) -> None:
    logger = TensorBoardLogger(save_dir=str(tmp_path), name=None, version="tensorboard")
    for step in (0, 5):
        PredictionPanel(tmp_path, images=2).show(Pictures(), result([1, 2]), [logger], step)
        log_reference_lines([logger], [result([1])], "vit_b32", step)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [image.step for image in events.Images("panel/imagenet")] == [0, 5]
    published = events.Scalars("reference/imagenet/ViT-B/32 LAION-2B")
    assert [(point.step, point.value) for point in published] == [(0, pytest.approx(0.666)), (5, pytest.approx(0.666))]
    assert "custom_scalars__config__" in events.summary_metadata
