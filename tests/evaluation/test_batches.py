"""Fixed shapes, the cache, the loader, and parts of a set."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cliplab.evaluation import batches
from cliplab.evaluation.batches import EvaluationImages
from cliplab.evaluation.clock import Phases
from cliplab.evaluation.tally import stratified_rows
from cliplab.evaluation.zero_shot import ZeroShotClassification

from .toys import DEVICE, Labelled, prepared, toy_model


class Counting(Labelled):
    """Counts how often each picture is decoded."""

    def __init__(self, labels: list[int]) -> None:
        super().__init__(labels, [f"n{i}" for i in range(max(labels) + 1)])
        self.decoded: Counter[int] = Counter()

    def picture(self, index: int) -> Image.Image:
        self.decoded[index] += 1
        return super().picture(index)


def read(images: EvaluationImages, rows: list[int] | None = None) -> list[tuple[list[int], list[Any], list[int]]]:
    found = images.batches(DEVICE, Phases(DEVICE), rows)
    return [(batch.images[:, 0, 0, 0].tolist(), batch.targets, batch.rows) for batch in found]


EXPECTED = [([0, 1, 2], [0, 1, 2], [0, 1, 2]), ([3, 4, 5], [0, 1, 2], [3, 4, 5]), ([6, 0, 0], [0], [6])]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_have_one_shape_and_are_the_same_every_time(workers: int) -> None:
    images = prepared(Counting([i % 3 for i in range(7)]), batch_size=3, num_workers=workers, cache_gb=0)
    assert [read(images), read(images)] == [EXPECTED, EXPECTED]
    assert images.loader is not None


def test_pictures_are_decoded_once_when_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for in_memory in (batches.IN_MEMORY, 1):  # and in a memory-mapped file
        monkeypatch.setattr(batches, "IN_MEMORY", in_memory)
        data = Counting([i % 3 for i in range(7)])
        images = prepared(data, batch_size=3, cache_gb=1e-6)
        some = [([1, 4, 5], [1, 1, 2], [1, 4, 5]), ([6, 0, 0], [0], [6])]
        assert read(images, [1, 4, 5, 6]) == some
        assert [read(images), read(images), read(images, [1, 4, 5, 6])] == [EXPECTED, EXPECTED, some]
        assert data.decoded == {0: 2, **dict.fromkeys(range(1, 7), 1)}  # the first also shows the shape
        too_many = Counting([i % 3 for i in range(7)])
        images = prepared(too_many, batch_size=3, cache_gb=83 / 2**30)  # of 7 pictures of 12 bytes
        assert [read(images), read(images)] == [EXPECTED, EXPECTED]
        assert too_many.decoded[3] == 2


def test_evaluation_leaves_the_draws_of_training_alone() -> None:
    before = torch.get_rng_state()
    read(prepared(Counting([0, 1]), batch_size=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_stratified_rows_give_each_label_its_share() -> None:
    labels = np.array([0] * 40 + [1] * 20 + [2] * 4)
    np.random.default_rng(1).shuffle(labels)
    rows = stratified_rows(labels, 16)
    assert np.bincount(labels[rows]).tolist() == [10, 5, 1]
    assert rows == sorted(set(rows))
    assert stratified_rows(labels, 64) == list(range(64))
    quarter = stratified_rows(np.zeros(64, dtype=int), 16)
    assert max(np.diff([-1, *quarter])) <= 5, "evenly spread over a label's rows"


def test_a_part_of_a_set_is_called_so() -> None:
    labels = [0] * 8 + [1] * 4
    evaluator = ZeroShotClassification(
        name="t", images=prepared(Labelled(labels, ["a", "b"]), batch_size=4), templates="plain", subset=6
    )
    model = toy_model(torch.eye(2)[labels], torch.eye(2))
    part = evaluator.evaluate(model, thorough=False)
    whole = evaluator.evaluate(model)
    assert [line[0] for line in part.details["counts"]] == [4, 2]
    assert part.details["subset"] == "6 of the 12 images, each class with its share"
    assert part.metrics["images"] == 6
    assert whole.details["subset"] is None
    assert whole.metrics["images"] == 12
    assert part.protocol_hash != whole.protocol_hash
    changed = {k for k, v in part.details["protocol"].items() if v != whole.details["protocol"][k]}
    assert changed == {"data", "all"}
    with pytest.raises(ValueError, match=r"zeroshot.t.subset 0 must be at least 1"):
        ZeroShotClassification(name="t", images=prepared(Labelled(labels, ["a", "b"])), templates="plain", subset=0)
    with pytest.raises(ValueError, match="batch_size 0"):
        prepared(Labelled(labels, ["a", "b"]), batch_size=0)


def test_phases_are_told() -> None:
    labels = [0, 1, 0]
    evaluator = ZeroShotClassification(name="t", images=prepared(Labelled(labels, ["a", "b"])), templates="plain")
    result = evaluator.evaluate(toy_model(torch.eye(2)[labels], torch.eye(2)))
    assert set(result.seconds) == {"text", "load", "images", "logits"}
    assert all(seconds >= 0 for seconds in result.seconds.values())
