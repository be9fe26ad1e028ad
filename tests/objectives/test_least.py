"""The least loss of a batch with equal pictures or captions: known values, reached by the best logits and by no others."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from cliplab.models.clip import EMBEDS, Encoded
from cliplab.models.tokens import Tokens
from cliplab.objectives.contrastive import ClipLoss, ConvirtLoss, GroupedClipLoss, MaskedClipLoss, SigmoidLoss
from cliplab.objectives.weighted_sum import WeightedSum

from .pairs import small_clip, some_pairs
from .test_contrastive import Batch, output

FAR = -60.0  # a logit so low that its probability is 0
BATCHES = [  # pictures, captions, groups
    ("abcd", "ssuu", [0, 0, 1, 1]),
    ("aabb", "sstt", [0, 1, 2, 3]),
    ("aab", "stt", [0, 1, 2]),
    ("aabcca", "stsuus", [0, 1, 0, 2, 2, 1]),
    ("abc", "stu", [0, 0, 0]),
]


def with_logits(logits: torch.Tensor) -> Encoded:
    """Embeddings whose products are ``logits``, [pictures, captions]."""
    return output(logits, torch.eye(len(logits)), 1.0, 0.0)


def spread(pictures: Sequence[str], captions: Sequence[str], value: dict[tuple[str, str], float]) -> torch.Tensor:
    return torch.tensor([[value.get((x, t), FAR) for t in captions] for x in pictures])


def test_known_values() -> None:
    names = list(range(6))
    assert ClipLoss().least_loss("abcdef", "stuvwx", names) == 0
    assert ClipLoss().least_loss("abcdef", "ssttuu", names) == pytest.approx(math.log(2)), "two pictures of each"
    assert ClipLoss().least_loss("aabbcc", "ssttuu", names) == pytest.approx(math.log(2)), "each pair twice"
    assert ClipLoss().least_loss("abcdef", "ssssss", names) == pytest.approx(math.log(6)), "nothing tells them apart"
    assert ClipLoss().least_loss("abcdef", "ssstuv", names) == pytest.approx(math.log(3) / 2), "half of the rows"
    assert GroupedClipLoss().least_loss("abcdef", "stuvwx", [0, 0, 1, 1, 2, 2]) == pytest.approx(math.log(2))
    assert SigmoidLoss().least_loss("abcdef", "stuvwx", names) == 0
    assert SigmoidLoss().least_loss("ab", "ss", [0, 1]) == pytest.approx(2 * math.log(2)), "two logits of two, even"
    assert MaskedClipLoss().least_loss("abcdef", "ssssss", names) == 0, "nothing is claimed"
    both = WeightedSum(parts={"clip": ClipLoss(), "siglip": SigmoidLoss()}, weights={"siglip": 0.5})
    assert both.least_loss("ab", "ss", [0, 1]) == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(("pictures", "captions", "groups"), BATCHES)
@pytest.mark.parametrize("loss", [ClipLoss, GroupedClipLoss])
def test_the_best_logits_reach_it(loss: type[ClipLoss], pictures: str, captions: str, groups: list[int]) -> None:
    own = list(range(len(pictures))) if loss is ClipLoss else groups
    sizes, times, repeats = Counter(own), Counter(pictures), Counter(captions)
    weights = Counter[tuple[str, str]]()
    for x, i in zip(pictures, own, strict=True):
        for t, j in zip(captions, own, strict=True):
            weights[x, t] += (i == j) / sizes[i]  # type: ignore[assignment]
    best = {(x, t): math.log(a / times[x] / repeats[t]) for (x, t), a in weights.items() if a}
    batch = Batch(torch.tensor(own))
    reached = float(loss()(with_logits(spread(pictures, captions, best)), batch).loss)
    assert loss().least_loss(pictures, captions, own) == pytest.approx(reached, abs=1e-6)
    for seed in range(20):
        noise = torch.Generator().manual_seed(seed)
        other = {pair: value + float(torch.randn((), generator=noise)) for pair, value in best.items()}
        assert float(loss()(with_logits(spread(pictures, captions, other)), batch).loss) > reached - 1e-6


@pytest.mark.parametrize(("pictures", "captions", "groups"), BATCHES)
def test_the_best_sigmoids_reach_it(pictures: str, captions: str, groups: list[int]) -> None:
    times, repeats = Counter(pictures), Counter(captions)
    together = Counter(zip(pictures, captions, strict=True))
    shares = {(x, t): n / (times[x] * repeats[t]) for (x, t), n in together.items()}
    best = {pair: -FAR if share == 1 else math.log(share / (1 - share)) for pair, share in shares.items()}
    reached = float(SigmoidLoss()(with_logits(spread(pictures, captions, best)), Batch()).loss)
    assert SigmoidLoss().least_loss(pictures, captions, groups) == pytest.approx(reached, abs=1e-6)


def test_the_weights_of_both_directions_do_not_matter() -> None:
    convirt = ConvirtLoss(image_weight=0.75, temperature=0.1)
    assert convirt.least_loss("aab", "stt", [0, 1, 2]) == ClipLoss().least_loss("aab", "stt", [0, 1, 2]) > 0


def test_a_small_model_comes_to_it() -> None:
    clip, rows = small_clip(), torch.tensor([0, 0, 1, 2, 3, 3, 4, 5])
    pairs = some_pairs(8)
    pairs = pairs._replace(
        images=pairs.images[[0, 1, 2, 3, 4, 4, 5, 6]], tokens=Tokens(rows[:, None] + 3, 0 * rows + 1)
    )
    optimizer = torch.optim.Adam(clip.parameters(), lr=1e-2)
    for _ in range(150):
        loss = ClipLoss()(clip(pairs.images, pairs.tokens, EMBEDS), pairs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    least = ClipLoss().least_loss("abcdeefg", rows.tolist(), range(8))
    assert least == pytest.approx(math.log(2) / 2), "two pictures of one caption, and one pair twice"
    assert least < loss.item() < least + 0.01
