"""Losses in blocks: the values and the gradients of all logits at once, in the memory of a block, on any number of ranks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cliplab.benchmarks.measuring import LiveBytes
from cliplab.distributed import pass_on
from cliplab.models.chunks import encode_in_chunks, split_tokens
from cliplab.models.clip import Encoded
from cliplab.objectives.contrastive import ClipLoss, ConvirtLoss, GroupedClipLoss, MaskedClipLoss, SigmoidLoss
from cliplab.objectives.objective import Objective
from tests.processes import run_ranks

from .pairs import small_clip, some_pairs
from .ranks import assert_average, group, save_average
from .test_contrastive import Batch

MORE: dict[type[Objective], dict[str, float]] = {ConvirtLoss: {"image_weight": 0.75, "temperature": 0.1}}
LOSSES = [ClipLoss, GroupedClipLoss, MaskedClipLoss, SigmoidLoss, ConvirtLoss]
ROWS = 12
GROUPS = torch.tensor([0, 1, 0, 2, 3, 1, 0, 4, 5, 6, 7, 0])


def leaves(rows: int = ROWS, width: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Images, texts, log scale and bias. The last pair is the first again: a tie in each row and column."""
    generator = torch.Generator().manual_seed(7)
    images, noise = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(2))
    embeds = [F.normalize(x, dim=-1) for x in (images, images + 0.8 * noise)]
    for x in embeds:
        x[-1] = x[0]
    scalars = [torch.tensor(value, dtype=torch.float64) for value in (3.1, -4.0)]
    return [x.to(dtype).requires_grad_() for x in (*embeds, *scalars)]


def outcome(loss: type[Objective], size: int | None, part: slice = slice(None), rows: int = ROWS) -> list[Tensor]:
    """Loss, accuracies, and the gradients of images, texts, scale and bias, of the rows of ``part``."""
    images, texts, scale, bias = given = leaves(rows)
    groups = GROUPS.repeat(rows // ROWS + 1)[:rows]
    objective: Any = loss(**MORE.get(loss, {}), block_size=size)
    result = objective(Encoded(images[part], texts[part], scale.exp(), bias), Batch(groups[part]))
    result.loss.backward()
    of = len(images[part])
    accuracies = [(result.figures[f"{x}_accuracy"].double() * of).round() / of for x in ("image", "text")]
    return [result.loss.detach(), *accuracies, *(torch.zeros_like(x) if x.grad is None else x.grad for x in given)]


def assert_exact(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_blocks_give_the_loss_its_gradients_and_its_accuracies(loss: type[Objective]) -> None:
    for rows in (1, ROWS, 23):
        expected = outcome(loss, None, rows=rows)
        assert rows == 1 or 0 < float(expected[1]) < 1
        assert rows == 1 or 0 < float(expected[2]) < 1
        for size in (1, 3, 5, 12, 22, 100):
            assert_exact(outcome(loss, size, rows=rows), expected)


def test_of_equal_logits_the_first_is_the_best() -> None:
    """The last pair is the first again: whole rows and blocks agree that each is right once."""
    eye = torch.eye(4)[[0, 1, 2, 3, 0]]
    for size in (None, 1, 2, 5):
        figures = ClipLoss(block_size=size)(Encoded(eye, eye, torch.tensor(5.0)), Batch()).figures
        assert float(figures["image_accuracy"]) == float(figures["text_accuracy"]) == pytest.approx(4 / 5)


@pytest.mark.parametrize("loss", [ClipLoss, SigmoidLoss])
def test_far_apart_logits_lose_no_digit(loss: type[Objective]) -> None:
    """Exponentials relative to the highest logit of a block or of a row alone would be 0 for other rows or columns."""
    values = []
    for size in (None, 2):
        images, texts = (torch.eye(6) * torch.tensor([1.0, -1, 1, -1, 1, 0]).unsqueeze(1) for _ in range(2))
        images, texts = images.requires_grad_(), (texts + 0.3).requires_grad_()
        objective: Any = loss(block_size=size)
        objective(Encoded(images, texts, torch.tensor(400.0), torch.tensor(-9.0)), Batch()).loss.backward()
        values.append((images.grad, texts.grad))
    for plain, blocks in zip(*values, strict=True):
        assert torch.isfinite(blocks).all()
        torch.testing.assert_close(blocks, plain, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_a_locked_tower_gets_no_gradient_and_changes_no_other(trained: int) -> None:
    """0: images alone, 1: texts alone, 2: the scale alone."""
    gradients = []
    for size in (None, 5):
        given = leaves()
        for i, leaf in enumerate(given):
            leaf.requires_grad_(i == trained)
        ClipLoss(block_size=size)(Encoded(given[0], given[1], given[2].exp()), Batch()).loss.backward()
        assert [leaf.grad is None for leaf in given] == [i != trained for i in range(4)]
        gradients.append(given[trained].grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_more_than_a_block_is_alive(loss: type[Objective]) -> None:
    """Beside a few copies of the embeddings, which grow with the rows, as much memory as some blocks; never all logits."""
    size, width = 32, 4

    def peak(rows: int, block_size: int | None) -> float:
        images, texts, scale, bias = leaves(rows, width, torch.float32)
        objective: Any = loss(**MORE.get(loss, {}), block_size=block_size)
        groups = torch.arange(rows) // 2
        with LiveBytes() as live:
            objective(Encoded(images, texts, scale.exp(), bias), Batch(groups)).loss.backward()
        return live.peak / 4

    few, many = 256, 512
    assert peak(many, None) > many**2
    by_rows = (peak(many, size) - peak(few, size)) / (many - few)
    assert by_rows < 8 * width + 24, "what grows with the rows: gradients, and sums of each row"
    assert peak(many, size) - by_rows * many < 6 * size**2


def test_together_with_towers_in_chunks() -> None:
    model, batch = small_clip(), some_pairs()
    gradients = []
    for size, chunks in ((None, 1), (3, 2)):
        model.zero_grad()
        encoded = encode_in_chunks(model, batch.images, split_tokens(batch.tokens, chunks))
        GroupedClipLoss(block_size=size)(encoded, batch).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 20
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_block_of_nothing_is_refused(loss: type[Objective]) -> None:
    with pytest.raises(ValueError, match=r"objective.block_size 0 must be 1 or more; null computes all logits at once"):
        loss(**MORE.get(loss, {}), block_size=0)  # type: ignore[call-arg]


def one_rank(number: int, ranks: int, folder: str) -> None:
    with group(number, ranks, folder):
        moved = pass_on([torch.tensor([number]), torch.tensor([[0.5 + number]])])()
        before = (number - 1) % ranks
        assert [x.tolist() for x in moved] == [[before], [[0.5 + before]]]
        share = ROWS // ranks
        part = slice(number * share, (number + 1) * share)
        for loss in LOSSES:
            save_average(outcome(loss, 3, part), folder, loss.__name__)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_in_a_ring_give_one_process_loss_and_gradients(tmp_path: Path, ranks: int) -> None:
    run_ranks(one_rank, ranks, str(tmp_path))
    for loss in LOSSES:
        assert_average(tmp_path, loss.__name__, outcome(loss, None), rtol=1e-10, atol=1e-10)
