"""Captions of a set: written for each picture in its order, scored, and shown beside it."""

import pytest
import torch
from torch import Tensor

from cliplab.evaluation.blocks import Shelf
from cliplab.evaluation.captioning import Captioning
from cliplab.evaluation.kind import Record
from cliplab.evaluation.kinds.captioning import KIND
from cliplab.evaluation.model import ZeroShotModel

from .toys import DEVICE, Numbered, Table, Words, prepared

REFERENCES = [["red car", "a red car"], ["blue dog"], ["two cats"], ["one hat"], ["green tea"]]
WRITTEN = ["a red car", "blue", "two cats", "hat one", "sea"]


def model(written: list[str], asked: list[int] | None = None) -> ZeroShotModel:
    def write(images: Tensor, beams: int) -> list[str]:
        if asked is not None:
            asked.append(beams)
        return [written[i] for i in images[:, 0, 0, 0].tolist()]

    return ZeroShotModel(Table(torch.eye(2), torch.eye(2)), Words(), DEVICE, write=write)


def test_each_picture_has_its_caption_and_cards_show_it() -> None:
    evaluator, asked = Captioning(name="toy", images=prepared(Numbered(REFERENCES), batch_size=2), beams=3), list[int]()
    result = evaluator.evaluate(model(WRITTEN, asked))
    assert result.stem == "toy_captions"
    assert asked == [3, 3, 3]
    assert result.samples["written"] == WRITTEN
    assert result.samples["captions"] == REFERENCES
    assert result.samples["exact"] == [True, False, True, False, False]
    assert result.metrics["exact"] == 2 / 5
    assert result.metrics["images"] == 5
    assert result.metrics["captions"] == 6
    assert result.metrics["distinct"] == 5
    assert result.details["warnings"] == []
    samples = {**result.samples, "thumbnail": [b"png"] * 5}
    record = Record(KIND, "toy_captions", "toy", "", "", result.metrics, "", result.details, lambda: samples)
    examples, worst = KIND.blocks(record)
    assert isinstance(examples, Shelf)
    assert isinstance(worst, Shelf)
    assert "the best of 3 beams" in examples.small
    first = examples.cards[0]
    assert (first.truth, first.hit, first.answers[0].name, first.note) == (
        "red car",
        True,
        "a red car",
        "references: 2",
    )
    assert [card.truth for card in worst.cards] == ["green tea", "one hat", "blue dog"]


def test_one_caption_for_all_is_said_and_a_model_without_a_decoder_refused() -> None:
    evaluator = Captioning(name="toy", images=prepared(Numbered(REFERENCES), batch_size=4))
    assert (
        evaluator.evaluate(model(["a"] * 5))
        .details["warnings"][0]
        .startswith("every picture got the same caption, 'a'")
    )
    with pytest.raises(ValueError, match="toy: this model writes no captions"):
        evaluator.evaluate(ZeroShotModel(Table(torch.eye(2), torch.eye(2)), Words(), DEVICE))


def test_a_picture_without_a_reference_is_named() -> None:
    evaluator = Captioning(name="toy", images=prepared(Numbered([["a"], []]), batch_size=2))
    with pytest.raises(ValueError, match="toy: row 1 has no caption to compare with"):
        evaluator.evaluate(model(["a", "b"]))


def test_how_captions_are_written_is_part_of_the_protocol() -> None:
    images = prepared(Numbered(REFERENCES), batch_size=2)
    greedy, beam = (Captioning(name="toy", images=images, beams=beams).protocol() for beams in (1, 5))
    assert greedy["all"] != beam["all"]
    assert greedy["transform"] == beam["transform"]
