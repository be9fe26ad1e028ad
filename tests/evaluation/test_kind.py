"""Kinds of evaluation: found by being there, told once, and shown by pages that know blocks alone."""

import io
from pathlib import Path

import pytest
from PIL import Image

from cliplab.evaluation import kind as kinds_module
from cliplab.evaluation.blocks import Block, Overlay
from cliplab.evaluation.kind import Kind, Record, headlines, kind_of, kind_of_evaluator, kinds, leaderboard_metrics
from cliplab.evaluation.result import EvaluationResult
from cliplab.evaluation.running import named_metrics
from cliplab.reporting.comparison import compare_runs, write_comparison
from cliplab.reporting.html import write_report
from cliplab.reporting.results import read_records, write_result


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


class Masks(Kind):
    """A made-up kind that only names its figures and shows one overlay."""

    name = task = "masks"
    title, suffix = "Masks of text", "_masks"
    figures = {"miou": "mean IoU"}
    facts = {"images": "images"}
    leaderboard = curve = ("miou",)

    def blocks(self, record: Record) -> list[Block]:
        return [Overlay("Some picture", png("red"), [("predicted", png("blue"))])]


KIND = Masks()


def test_every_kind_is_found_and_told_apart() -> None:
    assert [kind.name for kind in kinds()] == ["zero_shot", "linear_probe", "multi_label", "retrieval", "captioning"]
    assert [kind.stem("x") for kind in kinds()] == ["x", "x_linear_probe", "x", "x_retrieval", "x_captions"]
    assert kind_of("zeroshot_classification", {"acc1": 0.5}).name == "zero_shot"
    assert kind_of("zeroshot_classification", {"mean_average_precision": 0.5}).name == "multi_label"
    assert kind_of("linear_probe", {"acc1": 0.5}, "linear_probe").name == "linear_probe"
    assert headlines() == {"acc1", "mean_average_precision", "recall@1", "ROUGE_L"}
    assert leaderboard_metrics() == {"acc1", "acc5"}


@pytest.mark.parametrize(
    ("task", "metrics", "line"),
    [
        ("zeroshot_classification", {"acc1": 0.5, "acc5": 0.75}, "top-1 50.00%, top-5 75.00%"),
        ("zeroshot_classification", {"mean_average_precision": 0.5}, "mean average precision 50.00%"),
        ("linear_probe", {"acc1": 0.5, "acc5": 0.75}, "top-1 50.00%, top-5 75.00%"),
        (
            "zeroshot_retrieval",
            {"recall@1": 0.5, "image_retrieval_recall@1": 0.25, "text_retrieval_recall@1": 0.75},
            "recall@1 25.00% text to image, 75.00% image to text",
        ),
    ],
)
def test_the_line_on_the_screen(task: str, metrics: dict[str, float], line: str) -> None:
    assert kind_of(task, metrics).say(metrics) == line


def test_a_new_kind_is_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, files, logs, screen, report, comparison and Markdown follow from what the kind says of itself."""
    known = (*kinds(), KIND)
    monkeypatch.setattr(kinds_module, "kinds", lambda: known)
    folders = []
    for value in (0.25, 0.5):
        folders.append(tmp_path / f"{value}")
        result = EvaluationResult("voc", KIND, {"miou": value, "images": 3.0}, "abc", {"warnings": ["look"]})
        assert named_metrics(result) == {"zeroshot/voc/miou": value, "zeroshot/voc/images": 3.0}
        assert write_result(folders[-1], result, None, "m", "last").name == "voc_masks.json"  # type: ignore[arg-type]
    assert KIND.say({"miou": 0.25}) == "mean IoU 25.00%"
    page = write_report(folders[0]).read_text()
    for expected in (
        "25.0<small>%",
        "mean IoU on <b>voc</b>",
        "Masks of text",
        "Some picture",
        "predicted",
        "voc: look",
    ):
        assert expected in page
    assert "| voc | **25.0 %** | 3 |" in (folders[0] / "report.md").read_text()
    assert compare_runs(folders)["others"][0]["rows"][1]["value"] == 0.5
    assert "| 0.5 | **50.0 %** |" in write_comparison(tmp_path, folders).with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("target", "name", "key"),
    [
        ("zero_shot.ZeroShotClassification", "pets", "zeroshot/pets/acc1"),
        ("zero_shot.imagenet_classification", "imagenet", "zeroshot/imagenet/acc1"),
        ("multi_label.MultiLabelClassification", "voc", "zeroshot/voc/mean_average_precision"),
        ("linear_probe.LinearProbe", "pets", "linear_probe/pets/acc1"),
        ("retrieval.Retrieval", "coco", "zeroshot/coco/recall@1"),
        ("retrieval.Retrieval", "val", "val/recall@1"),
    ],
)
def test_the_key_under_which_a_headline_is_logged(target: str, name: str, key: str) -> None:
    kind = kind_of_evaluator(f"cliplab.evaluation.{target}")
    assert kind is not None
    assert kind.logged(name, kind.headline) == key
    assert list(named_metrics(EvaluationResult(name, kind, {kind.headline: 0.5}, ""))) == [key]
    assert kind_of_evaluator("mine.Masks") is None


def test_a_result_of_a_kind_that_is_not_here_is_listed(tmp_path: Path) -> None:
    write_result(tmp_path, EvaluationResult("voc", KIND, {"miou": 12.5}, "abc"), None, "m", "last")  # type: ignore[arg-type]
    (record,) = read_records(tmp_path)
    assert (record.stem, record.kind.name) == ("voc_masks", "masks")
    assert "12.5" in write_report(tmp_path).read_text()
