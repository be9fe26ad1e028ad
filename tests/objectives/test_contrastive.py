"""Losses with known values, and the same gradient from two processes as from one."""

import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cliplab.distributed import gather, rank, world_size
from cliplab.models.clip import Encoded
from cliplab.models.tokens import Tokens
from cliplab.objectives.contrastive import ClipLoss, ConvirtLoss, GroupedClipLoss, MaskedClipLoss, SigmoidLoss
from tests.processes import run_ranks

from .ranks import assert_average, group, save_average


class Batch(NamedTuple):
    """Of a batch these losses read its groups alone."""

    groups: torch.Tensor | None = None
    images: torch.Tensor = torch.empty(0)
    tokens: Tokens = Tokens(torch.empty(0, 0, dtype=torch.long), torch.empty(0, dtype=torch.long))
    epochs: torch.Tensor = torch.empty(0, dtype=torch.long)
    indices: torch.Tensor = torch.empty(0, dtype=torch.long)
    captions: tuple[str, ...] = ()


class Convirt(ConvirtLoss):
    """With the figures of its source."""

    def __init__(self) -> None:
        super().__init__(image_weight=0.75, temperature=0.1)


LOSSES = [ClipLoss, GroupedClipLoss, MaskedClipLoss, SigmoidLoss, Convirt]


def output(images: torch.Tensor, texts: torch.Tensor, scale: float, bias: float | None = None) -> Encoded:
    return Encoded(images, texts, torch.tensor(scale), None if bias is None else torch.tensor(bias))


def random_output(rows: int = 6) -> Encoded:
    images, texts = (F.normalize(torch.randn(rows, 5), dim=-1) for _ in range(2))
    return output(images, texts, 8.0, -3.0)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_orthonormal_pairs(scale: float) -> None:
    n = 7
    result = ClipLoss()(output(torch.eye(n), torch.eye(n), scale), Batch())
    assert float(result.loss) == pytest.approx(math.log(1 + (n - 1) * math.exp(-scale)), rel=1e-3)
    assert (float(result.figures["image_accuracy"]), float(result.figures["text_accuracy"])) == (1, 1)


def test_scale_zero_knows_nothing() -> None:
    result = ClipLoss()(output(torch.eye(9), torch.eye(9), 0.0), Batch())
    assert float(result.loss) == pytest.approx(math.log(9), rel=1e-6)


def test_accuracy_both_ways() -> None:
    images = torch.eye(3)
    texts = torch.tensor([[1.0, 0, 0], [0.9, 0.8, 0], [0, 0, 1.0]])
    result = ClipLoss()(output(images, texts, 1.0), Batch())
    assert float(result.figures["image_accuracy"]) == 1
    assert float(result.figures["text_accuracy"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("loss", [GroupedClipLoss, MaskedClipLoss])
def test_distinct_groups_give_the_plain_loss(loss: type[nn.Module]) -> None:
    out = random_output()
    expected, result = ClipLoss()(out, Batch()), loss()(out, Batch(torch.arange(6) * 3))
    torch.testing.assert_close(expected.loss, result.loss)
    torch.testing.assert_close(expected.figures, result.figures)


def test_grouped_by_hand() -> None:
    """Two of three samples are one thing: each is half of the other's target."""
    logits = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    result = GroupedClipLoss()(output(torch.eye(3), logits.T, 1.0), Batch(torch.tensor([5, 5, 8])))
    first = math.log(math.exp(2) + math.exp(1) + 1) - 1.5
    third = math.log(math.exp(2) + 2) - 2
    assert float(result.loss) == pytest.approx((2 * first + third) / 3, rel=1e-6)
    assert float(result.figures["image_accuracy"]) == 1


def test_masked_by_hand() -> None:
    """The false negative is in nobody's denominator."""
    logits = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    result = MaskedClipLoss()(output(torch.eye(3), logits.T, 1.0), Batch(torch.tensor([5, 5, 8])))
    first = math.log(math.exp(2) + 1) - 2
    third = math.log(math.exp(2) + 2) - 2
    assert float(result.loss) == pytest.approx((2 * first + third) / 3, rel=1e-6)


def test_sigmoid_by_hand() -> None:
    result = SigmoidLoss()(output(torch.eye(2), torch.eye(2), 3.0, -1.0), Batch())
    positive, negative = math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1))
    assert float(result.loss) == pytest.approx(positive + negative, rel=1e-6)


def test_convirt_by_hand() -> None:
    """Both directions with their weights, at the temperature 0.1 whatever the model's scale is."""
    cosines = torch.tensor([[0.2, 0.1], [0.0, 0.3]])
    result = Convirt()(output(torch.eye(2), cosines.T, 99.0), Batch())
    by_image = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(-3))]
    by_text = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-2))]
    assert float(result.loss) == pytest.approx((0.75 * sum(by_image) + 0.25 * sum(by_text)) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_weight": 1.5, "temperature": 0.1}, "objective.image_weight 1.5 must lie between 0 and 1"),
        ({"image_weight": 0.5, "temperature": 0.0}, "objective.temperature 0.0 must be above 0"),
    ],
)
def test_convirt_refuses_values_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvirtLoss(**values)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_a_batch_does_not_matter(loss: type[nn.Module]) -> None:
    out, groups = random_output(), torch.tensor([0, 1, 0, 2, 3, 3])
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    shuffled = out._replace(image_embeds=out.image_embeds[order], text_embeds=out.text_embeds[order])
    torch.testing.assert_close(loss()(out, Batch(groups)).loss, loss()(shuffled, Batch(groups[order])).loss)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (GroupedClipLoss, "set data.train.group_column"),
        (MaskedClipLoss, "set data.train.group_column"),
        (SigmoidLoss, "set model.init_logit_bias to -10"),
    ],
)
def test_missing_part_is_named(loss: type[nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss()(random_output()._replace(logit_bias=None), Batch())


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(8, 4, generator=generator),
        torch.randn(8, 4, generator=generator),
        torch.tensor([0, 1, 2, 3, 0, 4, 5, 1]),
    )


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.image, self.text = nn.Linear(4, 3), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, images: torch.Tensor, texts: torch.Tensor) -> Encoded:
        embeds = (F.normalize(f(x), dim=-1) for f, x in ((self.image, images), (self.text, texts)))
        return Encoded(*embeds, self.scale.exp(), self.bias)


def gradients(loss: type[nn.Module], part: slice) -> list[torch.Tensor]:
    towers, (images, texts, groups) = Towers(), batch()
    value = loss()(towers(images[part], texts[part]), Batch(groups[part])).loss
    value.backward()
    return [value.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad for p in towers.parameters())]


def one_rank(number: int, ranks: int, folder: str) -> None:
    with group(number, ranks, folder):
        assert (rank(), world_size()) == (number, ranks)
        assert gather(torch.tensor([number, 10 + number])).tolist() == [0, 10, 1, 11]
        share = 8 // ranks
        for loss in LOSSES:
            part = slice(number * share, (number + 1) * share)
            save_average(gradients(loss, part), folder, loss.__name__)


@pytest.mark.slow
def test_two_processes_give_one_process_gradient(tmp_path: Path) -> None:
    run_ranks(one_rank, 2, str(tmp_path))
    for loss in LOSSES:
        assert_average(tmp_path, loss.__name__, gradients(loss, slice(None)), rtol=1e-5)
