"""Matching, hidden patches and a teacher, against small cases worked out by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cliplab.models.clip import Encoded
from cliplab.models.tokens import Tokens
from cliplab.objectives.contrastive import ClipLoss
from cliplab.objectives.distill import Distillation, Taught
from cliplab.objectives.draws import uniforms
from cliplab.objectives.masked_image import MaskedImage
from cliplab.objectives.matching import Matching, drawn_negatives

from .pairs import Pairs, small_clip, some_pairs
from .test_bag_of_words import TOKENS

HEAD = {"width": 8, "layers": 1, "heads": 2, "seed": 3}


def test_draws_follow_their_keys_alone_and_are_even() -> None:
    rows, columns = torch.arange(50).unsqueeze(1), torch.arange(400).unsqueeze(0)
    table = uniforms(7, rows, columns)
    assert torch.equal(uniforms(7, rows[3:5], columns[:, 9:]), table[3:5, 9:])
    assert not torch.equal(uniforms(8, rows, columns), table)
    counts = torch.histc(table.float(), 10, 0, 1)
    assert float((counts - 2000).abs().max()) < 250  # six deviations
    assert float(table.min()) > 0
    assert float(table.max()) < 1
    assert table.unique().numel() == table.numel()


def test_negatives_are_drawn_by_similarity_and_never_hidden_ones() -> None:
    logits = torch.tensor([0.0, math.log(3), 5.0]).expand(20_000, 3)
    hidden = torch.tensor([False, False, True]).expand_as(logits)
    noise = uniforms(1, torch.arange(20_000).unsqueeze(1), torch.arange(3))
    drawn = drawn_negatives(logits, hidden, noise)
    assert float((drawn == 1).float().mean()) == pytest.approx(0.75, abs=0.02)
    assert not (drawn == 2).any()


def test_matching_by_hand() -> None:
    """The head says 1 for every pair: a third is right, and the loss is that of a logit of 1."""
    model, batch = small_clip(), some_pairs()
    objective = Matching(**HEAD)
    objective.build_heads(model)
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.fill_(1)
    loss, figures = objective(model(batch.images, batch.tokens, objective.reads), batch)
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert float(loss.detach()) == pytest.approx((right + 2 * wrong) / 3, rel=1e-6)
    assert float(figures["match_accuracy"]) == pytest.approx(1 / 3)


def test_negatives_are_of_other_groups_and_do_not_depend_on_the_batch_order() -> None:
    model, batch = small_clip(), some_pairs()
    objective = Matching(**HEAD)
    objective.build_heads(model)
    encoded = model(batch.images, batch.tokens, objective.reads)
    of_image, of_text, has_negatives = objective._negatives(encoded, batch)
    assert has_negatives.all()
    for found in (of_image, of_text):
        assert not (batch.groups[found] == batch.groups).any()
        assert not any(batch.captions[i] == caption for i, caption in zip(found, batch.captions, strict=True))
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    shuffled = encoded._replace(image_embeds=encoded.image_embeds[order], text_embeds=encoded.text_embeds[order])
    tokens = Tokens(batch.tokens.ids[order], batch.tokens.lengths[order])
    other = batch._replace(groups=batch.groups[order], indices=batch.indices[order], tokens=tokens)
    assert torch.equal(order[objective._negatives(shuffled, other)[0]], of_image[order])


def test_a_pair_is_no_negative_where_all_others_have_its_text() -> None:
    """Two pairs of one text and a third pair: only the third could be a negative, and one alone has none."""
    model, batch = small_clip(), some_pairs()
    objective = Matching(**HEAD)
    objective.build_heads(model)
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.fill_(1)
    right = math.log(1 + math.exp(-1))
    for texts, alone in ((["ab"], True), (["ab", "ab"], True), (["ab", "abc", "ab"], False)):
        index = torch.arange(len(texts))
        few = Pairs(batch.images[: len(texts)], TOKENS(texts), index, index, index, texts)
        encoded = model(few.images, few.tokens, objective.reads)
        loss, figures = objective(encoded, few)
        if alone:
            assert float(loss.detach()) == pytest.approx(right, rel=1e-6)
            assert float(figures["match_accuracy"]) == 1
        else:
            assert objective._negatives(encoded, few)[0][[0, 2]].tolist() == [1, 1]


def test_padding_of_a_text_changes_no_logit_and_scores_are_those_logits() -> None:
    model, batch = small_clip().eval(), some_pairs()
    objective = Matching(**HEAD)
    objective.build_heads(model)
    scores = objective.score(model, batch.images[:2], batch.tokens)
    assert scores.shape == (2, 8)
    alone = batch.rows(slice(0, 1))
    torch.testing.assert_close(objective.score(model, batch.images[:2], alone.tokens)[:, 0], scores[:, 0])
    assert (scores < 0).all()


def test_hidden_places_follow_the_sample_and_only_they_count() -> None:
    model, batch = small_clip(), some_pairs()
    objective = MaskedImage(hidden=0.5, **HEAD)
    objective.build_heads(model)
    places = objective.places(batch)
    assert places.sum(1).tolist() == [2] * 8
    assert torch.equal(objective.places(batch.rows(slice(2, 5))), places[2:5])
    assert not torch.equal(objective.places(batch._replace(epochs=batch.epochs + 1)), places)
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.zero_()
    encoded = model(batch.images, batch.tokens, objective.reads)
    targets = objective.targets(model.normalised(batch.images))
    torch.testing.assert_close(targets.mean(-1), torch.zeros(8, 4), atol=1e-5, rtol=0)
    expected = targets.square().mean(-1)[places].mean()
    torch.testing.assert_close(objective(encoded, batch).loss, expected)


def test_hidden_pixels_do_not_reach_the_prediction_and_the_caption_does() -> None:
    model, batch = small_clip().eval(), some_pairs()
    objective = MaskedImage(hidden=0.5, **HEAD)
    objective.build_heads(model)
    seen: list[Tensor] = []
    objective.head.register_forward_hook(lambda module, given, result: seen.append(result))
    painted = objective.places(batch).view(-1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = batch.images.masked_fill(painted, 7)
    for images, texts in (
        (batch.images, batch),
        (other, batch),
        (batch.images, batch._replace(tokens=TOKENS(batch.captions[::-1]))),
    ):
        encoded = model(images, texts.tokens, objective.reads)
        objective(encoded, batch._replace(images=images))
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2])


def test_a_teacher_that_says_the_same_adds_nothing_and_another_one_its_divergence() -> None:
    images, texts = F.normalize(torch.eye(2) + 0.1, dim=-1), torch.eye(2)
    encoded, batch = Encoded(images, texts, torch.tensor(2.0)), some_pairs(2)
    flat = Taught(torch.ones(2, 3) / 3**0.5, torch.ones(2, 3) / 3**0.5, torch.tensor(5.0))
    for taught, known in ((Taught(images, texts, torch.tensor(2.0)), 0.0), (flat, None)):
        objective = Distillation(
            teacher="t", weight=0.5, contrastive=ClipLoss(), read=lambda name, t=taught: lambda *_: t
        )
        objective.prepare(None)  # type: ignore[arg-type]
        loss, figures = objective(encoded, batch)
        if known is None:  # an even teacher: the mean over rows of -log 2 - mean log q
            logits = 2 * images @ texts.T
            by = [(-math.log(2) - q.log_softmax(1).mean(1)).mean() for q in (logits, logits.T)]
            known = float(sum(by) / 2)
        assert float(figures["divergence"]) == pytest.approx(known, abs=1e-6)
        assert float(loss) == pytest.approx(float(ClipLoss()(encoded, batch).loss) + 0.5 * known, rel=1e-5)


def test_the_divergence_in_blocks_is_that_of_all_rows() -> None:
    generator = torch.Generator().manual_seed(5)
    vectors = [F.normalize(torch.randn(8, 5, generator=generator), dim=-1) for _ in range(4)]
    found = []
    for size in (None, 3, 8, 20):
        images, texts, scale = (x.clone().requires_grad_() for x in (*vectors[:2], torch.tensor(6.0)))
        objective = Distillation(
            teacher="t",
            weight=2.0,
            contrastive=ClipLoss(block_size=size),
            read=lambda name: lambda *_: Taught(*vectors[2:], torch.tensor(9.0)),
            block_size=size,
        )
        objective.prepare(None)  # type: ignore[arg-type]
        loss, _ = objective(Encoded(images, texts, scale), some_pairs())
        found.append([loss, *torch.autograd.grad(loss, [images, texts, scale])])
    for others in found[1:]:
        for a, b in zip(others, found[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskedImage(hidden=1.0, **HEAD), "objective.hidden 1.0 must lie between 0 and 1"),
        (
            lambda: Distillation(teacher=None, weight=1, contrastive=ClipLoss(), read=lambda name: None),
            "objective.teacher: name the teacher's weights",
        ),
        (
            lambda: Distillation(teacher="./gone.pt", weight=1, contrastive=ClipLoss(), read=lambda name: None),
            "objective.teacher: ./gone.pt is neither a file nor a folder",
        ),
        (
            lambda: Matching(**{**HEAD, "heads": 3}).build_heads(small_clip()),
            "objective.width 8 is not a multiple of objective.heads 3",
        ),
    ],
)
def test_what_cannot_be_is_told(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
