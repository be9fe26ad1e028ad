"""Answers by score: what cosines say when the scores are those, and no embedding is asked for."""

import pytest
import torch
from torch import Tensor

from cliplab.evaluation.kinds.retrieval import KIND
from cliplab.evaluation.model import ZeroShotModel
from cliplab.evaluation.retrieval import Retrieval
from cliplab.evaluation.zero_shot import ZeroShotClassification
from cliplab.models.tokens import Tokens

from .toys import DEVICE, Labelled, Numbered, Table, Words, prepared, toy_model

NAMES = [f"n{i}" for i in range(5)]


class NoTowers(Table):
    def encode_image(self, images: Tensor) -> Tensor:
        raise AssertionError("an embedding was asked for")

    encode_text = encode_image  # type: ignore[assignment]


@pytest.mark.parametrize("templates", [["{}"], ["{}", "a {}"]], ids=len)
def test_scores_take_the_place_of_cosines(templates: list[str]) -> None:
    torch.manual_seed(3)
    images, texts = torch.randn(7, 4), torch.randn(10, 4)
    table = Table(images, texts)

    def score(pictures: Tensor, tokens: Tokens) -> Tensor:
        return table.encode_image(pictures) @ table.encode_text(tokens).T

    evaluator = ZeroShotClassification(
        name="toy", images=prepared(Labelled([0, 1, 2, 3, 4, 0, 1], NAMES), batch_size=3), templates=templates
    )
    by_score = evaluator.evaluate(ZeroShotModel(NoTowers(images, texts), Words(), DEVICE, score))
    assert by_score.metrics["images"] == 7
    if len(templates) == 1:
        by_cosine = evaluator.evaluate(toy_model(images, texts))
        for key in ("acc1", "acc5", "mean_rank", "mean_per_class_recall"):
            assert by_score.metrics[key] == by_cosine.metrics[key]
        return
    scores = score(pixels(), tokens_of(10)).view(7, 5, 2)
    assert by_score.metrics["acc1"] == pytest.approx(accuracy(scores.mean(2)))
    each = [t["acc1"] for t in by_score.details["per_template"]]
    assert each == pytest.approx([accuracy(scores[..., k]) for k in range(2)])


def pixels() -> Tensor:
    return torch.arange(7).view(7, 1, 1, 1).expand(7, 3, 2, 2)


def tokens_of(count: int) -> Tokens:
    return Tokens(torch.arange(count).unsqueeze(1), torch.ones(count, dtype=torch.int64))


def accuracy(scores: Tensor) -> float:
    return float((scores.argmax(1) == torch.tensor([0, 1, 2, 3, 4, 0, 1])).float().mean())


def test_retrieval_by_score_finds_what_cosines_of_that_size_find() -> None:
    """The shared caption "b" is one text, and log-likelihoods below 0 have bars relative to the best."""
    torch.manual_seed(4)
    images, texts = torch.randn(5, 4), torch.randn(6, 4)
    table = Table(images, texts)

    def score(pictures: Tensor, tokens: Tokens) -> Tensor:
        assert len(tokens.ids) == 6
        return table.encode_image(pictures) @ table.encode_text(tokens).T - 2

    evaluator = Retrieval(
        name="toy", images=prepared(Numbered([["a", "b"], ["c"], ["b"], ["d"], ["e", "f"]]), batch_size=2)
    )
    by_score = evaluator.evaluate(ZeroShotModel(NoTowers(images, texts), Words(), DEVICE, score))
    by_cosine = evaluator.evaluate(toy_model(images, texts))
    assert by_score.metrics == by_cosine.metrics
    assert by_score.samples["top_texts"] == by_cosine.samples["top_texts"]
    assert by_score.samples["image_rank"] == by_cosine.samples["image_rank"]
    answers = KIND.card(by_score.details, by_score.samples, 0).answers
    assert answers[0].share == 1
    assert 0 < answers[-1].share < answers[0].share
    assert answers[-1].figure.startswith("-")


def test_a_score_that_is_constant_retrieves_nothing() -> None:
    model = ZeroShotModel(
        NoTowers(torch.eye(2), torch.eye(2)),
        Words(),
        DEVICE,
        lambda images, texts: torch.zeros(len(images), len(texts.ids)),
    )
    found = Retrieval(name="toy", images=prepared(Numbered([["a"], ["b"], ["c"]]), batch_size=2)).evaluate(model)
    assert found.metrics["recall@1"] == 0
