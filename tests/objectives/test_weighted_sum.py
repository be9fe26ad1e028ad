"""A sum of objectives: one encoding for all, weights that count, figures that keep their part's name."""

import pytest
import torch

from cliplab.models.clip import EMBEDS
from cliplab.objectives.coca import CocaCaption
from cliplab.objectives.contrastive import ClipLoss, MaskedClipLoss, SigmoidLoss
from cliplab.objectives.matching import Matching
from cliplab.objectives.objective import Objective, score_of, trained_embeds
from cliplab.objectives.weighted_sum import WeightedSum

from .decoding import built, pairs, towers
from .test_contrastive import Batch, random_output

BATCH = Batch(torch.tensor([0, 1, 0, 2, 3, 3]))


class Grid(Objective):
    reads = frozenset({"image_states"})


def test_weights_multiply_and_what_is_not_named_counts_once() -> None:
    encoded = random_output()
    parts = {"clip": ClipLoss(), "masked": MaskedClipLoss(), "siglip": SigmoidLoss()}
    loss, figures = WeightedSum(parts=parts, weights={"masked": 0.5, "siglip": 0})(encoded, BATCH)
    alone = {name: part(encoded, BATCH) for name, part in parts.items()}
    torch.testing.assert_close(loss, alone["clip"].loss + 0.5 * alone["masked"].loss)
    for name, (value, told) in alone.items():
        assert torch.equal(figures[f"{name}/loss"], value)
        assert {f"{name}/{key}" for key in told} < set(figures)


def test_one_part_alone_is_that_part() -> None:
    encoded = random_output()
    assert torch.equal(WeightedSum(parts={"clip": ClipLoss()})(encoded, BATCH).loss, ClipLoss()(encoded, BATCH).loss)


def test_it_reads_what_its_parts_read() -> None:
    assert WeightedSum(parts={"clip": ClipLoss(), "grid": Grid()}).reads == EMBEDS | {"image_states"}
    assert WeightedSum(parts={"grid": Grid()}).reads == {"image_states"}


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [
        ({}, None, r"objective.parts names no objective; add one, \+objective@objective.parts.clip=clip"),
        ({"clip": ClipLoss()}, {"clap": 1}, "objective.weights.clap: there is no such part; the parts are clip"),
        ({"clip": ClipLoss()}, {"clip": -1}, "objective.weights.clip -1 must be 0 or more"),
        (
            {"clip": ClipLoss()},
            {"clip": 0},
            "objective.weights: all of clip have a weight of 0, and nothing would train",
        ),
        ({"clip": ClipLoss()}, {"clip": float("nan")}, "objective.weights.clip nan must be 0 or more"),
    ],
)
def test_a_sum_that_makes_no_sense_is_refused(parts, weights, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightedSum(parts=parts, weights=weights)


def test_contrastive_losses_compare_in_float32_whatever_the_precision() -> None:
    encoded = random_output()
    expected = ClipLoss()(encoded, BATCH).loss
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ClipLoss()(encoded, BATCH).loss, expected)


def caption() -> CocaCaption:
    return CocaCaption(layers=None, heads=None, captions=0)


def test_a_sum_scores_only_where_no_part_that_counts_trains_embeddings_of_texts() -> None:
    """``captions`` is the second part of the sum within the sum, after one that cannot score."""
    model, batch = towers(), pairs()
    contrastive = WeightedSum(parts={"clip": ClipLoss(), "caption": caption()})
    assert score_of(contrastive, model) is None
    assert trained_embeds(contrastive) == EMBEDS == trained_embeds(None)
    inner = WeightedSum(parts={"grid": Grid(), "captions": caption()})
    outer = built(WeightedSum(parts={"clip": ClipLoss(), "inner": inner}, weights={"clip": 0}), model)
    assert trained_embeds(outer) == set()
    score = score_of(outer, model)
    assert score is not None
    part = inner.parts["captions"]
    assert isinstance(part, CocaCaption)
    torch.testing.assert_close(score(batch.images, batch.tokens), part.score(model, batch.images, batch.tokens))
    assert score_of(WeightedSum(parts={"grid": Grid()}), model) is None


def test_matching_alone_compares_by_its_head() -> None:
    """It reads states of texts, and its embeddings have no gradient."""
    model, batch = towers(), pairs()
    objective = built(Matching(width=8, layers=1, heads=2, seed=0), model)
    assert trained_embeds(objective) == set()
    score = score_of(objective, model)
    assert score is not None
    assert (score(batch.images, batch.tokens) < 0).all()
