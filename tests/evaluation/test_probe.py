"""Several labels an image, and the linear probe."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torchmetrics.functional.classification import multilabel_average_precision

from cliplab.evaluation.linear_probe import LinearProbe, best_c, logistic_regression
from cliplab.evaluation.multi_label import MultiLabelClassification, average_precision

from .toys import Labelled, prepared, toy_model


def test_average_precision_by_hand_and_as_torchmetrics() -> None:
    scores = torch.tensor([[4.0, 1], [3, 2], [2, 3], [1, 4]])
    targets = torch.tensor([[1, 0], [0, 0], [1, 0], [1, 0]])
    found = average_precision(scores, targets)
    assert float(found[0]) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert math.isnan(float(found[1]))
    scores, targets = torch.rand(50, 6), torch.rand(50, 6) < 0.3
    theirs = multilabel_average_precision(scores, targets.long(), num_labels=6, average=None)
    torch.testing.assert_close(average_precision(scores, targets), theirs.double(), rtol=1e-5, atol=1e-6)


def test_several_labels_an_image() -> None:
    data = Labelled([0] * 4, ["a", "b", "c"])
    data.targets = [np.array(row, dtype=bool) for row in ([1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0])]
    images = torch.tensor([[1.0, 0.1, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    evaluator = MultiLabelClassification(name="m", images=prepared(data, batch_size=3), templates="plain")
    result = evaluator.evaluate(toy_model(images, torch.eye(3)))
    assert result.metrics["mean_average_precision"] == 1
    assert result.metrics["labels_per_image"] == 1
    assert result.details["average_precision"] == [1, 1, None]
    assert result.samples["labels"] == [[0], [1], [0, 1], []]
    assert result.samples["top5"][1][0] == 1
    assert result.details["protocol"]["all"] == result.protocol_hash


def blobs(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (rows,), generator=generator)
    centres = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(rows, 6, generator=generator)
    return torch.nn.functional.normalize(centres[labels] + noise, dim=-1), labels


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_logistic_regression_is_scikit_learns(c: float) -> None:
    features, labels = blobs(200, 1)
    ours = logistic_regression(features, labels, classes=4, c=c, tolerance=1e-8)
    theirs = LogisticRegression(C=c, tol=1e-9, max_iter=10_000).fit(features.double().numpy(), labels.numpy())
    expected = torch.from_numpy(theirs.predict_proba(features.double().numpy()))
    torch.testing.assert_close(ours(features.double()).softmax(-1), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.weight.detach(), torch.from_numpy(theirs.coef_), rtol=1e-2, atol=1e-3)


def test_c_is_found_to_an_eighth_of_a_decade() -> None:
    asked = []

    def score(c: float) -> float:
        asked.append(c)
        return -abs(math.log10(c) - 1.4)

    assert abs(math.log10(best_c(score)) - 1.4) <= 1 / 8
    assert len(asked) == len(set(asked)) <= 20
    assert best_c(lambda c: 0.0) == pytest.approx(1e-6)


def test_linear_probe_fits_one_part_and_scores_the_other() -> None:
    (train, train_labels), (test, test_labels) = blobs(80, 1), blobs(60, 2)
    names = [f"n{i}" for i in range(4)]
    model = toy_model(torch.cat([train, test]), torch.eye(6))
    parts = {
        "train_images": prepared(Labelled(train_labels.tolist(), names)),
        "images": prepared(Labelled(test_labels.tolist(), names, first=80)),
    }
    with torch.inference_mode():
        result = LinearProbe(name="p", **parts, max_iter=50).evaluate(model)
    fitted = logistic_regression(train, train_labels, classes=4, c=result.metrics["C"], max_iter=50)
    expected = float((fitted(test.double()).argmax(1) == test_labels).double().mean())
    assert result.metrics["acc1"] == expected > 0.5
    assert result.metrics["acc5"] == 1
    assert result.metrics["train_images"] == 80
    given = LinearProbe(name="p", **parts, c=3.0, max_iter=50).evaluate(model)
    assert given.metrics["C"] == 3
    assert given.protocol_hash != result.protocol_hash
    with pytest.raises(
        ValueError, match=r"different classes: .* only in the training part; other only in the test part"
    ):
        LinearProbe(name="p", **{**parts, "images": prepared(Labelled([0], ["other"]))})
    with pytest.raises(ValueError, match=r"validation_fraction 1 must lie between 0 and 1"):
        LinearProbe(name="p", **parts, validation_fraction=1)


def test_a_probe_reads_what_the_objective_trains() -> None:
    """The embeddings tell nothing, the features of the objective everything."""
    parts = [prepared(Labelled([0, 1] * 8, ["a", "b"], first=first), batch_size=4) for first in (0, 16)]
    blind = toy_model(torch.ones(32, 2), torch.eye(2))
    seeing = replace(blind, features=lambda images: torch.eye(2)[images[:, 0, 0, 0].long() % 2])
    probe = LinearProbe(name="toy", images=parts[1], train_images=parts[0], c=1.0)
    by_embedding, by_features = probe.evaluate(blind), probe.evaluate(seeing)
    assert by_embedding.metrics["acc1"] <= 0.5
    assert by_features.metrics["acc1"] == 1
    assert by_embedding.protocol_hash != by_features.protocol_hash
    assert by_embedding.details["warnings"] == []
    assert "mean of the image tower's states" in by_features.details["warnings"][0]
