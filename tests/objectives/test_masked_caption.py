"""Hidden words: which ones follow the sample, the loss and the score by hand; and tags."""

import pytest
import torch
from torch.nn import functional as F

from cliplab.objectives.masked_caption import MaskedCaption, hidden_words
from cliplab.objectives.tags import Tags

from .decoding import built, pairs, towers
from .test_bag_of_words import TOKENS

SIZES = {"width": None, "layers": None, "heads": None}


def masked(share: float) -> MaskedCaption:
    objective = built(MaskedCaption(seed=5, share=share, captions=100, **SIZES), towers())  # type: ignore[arg-type]
    assert isinstance(objective, MaskedCaption)
    return objective


def test_what_is_hidden_follows_seed_epoch_and_sample_alone() -> None:
    lengths, epochs, indices = torch.tensor([5, 3, 7]), torch.tensor([0, 0, 1]), torch.tensor([4, 9, 4])
    drawn = hidden_words(lengths, epochs, indices, seed=1, share=0.4)
    alone = hidden_words(lengths[2:], epochs[2:], indices[2:], seed=1, share=0.4)
    assert torch.equal(drawn[2], alone[0])
    every = hidden_words(torch.full((200,), 6), torch.arange(200), torch.zeros(200).long(), seed=1, share=0.0)
    assert torch.equal(every.sum(1), torch.ones(200, dtype=torch.int64))
    assert every.any(0).all()
    many = hidden_words(torch.full((500,), 6), torch.arange(500), torch.zeros(500).long(), seed=1, share=0.5)
    assert float(many.float().mean()) == pytest.approx(0.5 + 0.5 / 6, abs=0.04)  # one more at times
    even = hidden_words(torch.full((600,), 6), torch.arange(600), torch.zeros(600).long(), seed=1, share=None)
    counts = torch.bincount(even.sum(1), minlength=7)
    assert counts[0] == 0
    assert float((counts[1:] - 100).abs().max()) < 50  # five deviations
    assert float((even.float().mean(0) - 3.5 / 6).abs().max()) < 0.1
    assert not torch.equal(
        many, hidden_words(torch.full((500,), 6), torch.arange(500), torch.zeros(500).long(), seed=2, share=0.5)
    )


def test_the_loss_is_over_hidden_words_that_nothing_shows() -> None:
    model, objective, batch = towers(), masked(0.0), pairs(["a b c", "a b"])
    encoded = model(batch.images, batch.tokens, objective.reads)
    words = objective._words(batch.tokens)
    hidden = hidden_words(words.lengths, batch.epochs, batch.indices, seed=5, share=0.0)
    assert encoded.image_states is not None
    memory = encoded.image_states.patches.flatten(1, 2)
    states = objective.states(memory, words._replace(ids=words.ids[:, :3]), hidden)
    expected = F.cross_entropy(objective.table.logits(states), words.ids[:, :3][hidden])
    torch.testing.assert_close(objective(encoded, batch).loss, expected)
    other = words.ids[:, :3].masked_fill(hidden, 0)  # another word where it is hidden
    torch.testing.assert_close(objective.states(memory, words._replace(ids=other), hidden), states)
    seen = (~hidden & (words.lengths.unsqueeze(1) > torch.arange(3))).nonzero()[0]
    changed = words.ids[:, :3].clone()
    changed[seen[0], seen[1]] = 0
    assert not torch.allclose(objective.states(memory, words._replace(ids=changed), hidden)[seen[0]], states[seen[0]])


def test_padding_is_not_read() -> None:
    model, objective = towers(), masked(1.0)
    memory = model.image_encoder.forward_states(model.normalised(pairs().images[:1])).patches.flatten(1, 2)
    alone = objective._words(TOKENS(["a b"]))
    longer = objective._words(TOKENS(["a b", "a b c a"]))
    hidden = torch.zeros_like(longer.ids, dtype=torch.bool)
    hidden[:, 0] = True
    both = objective.states(memory.expand(2, -1, -1), longer, hidden)
    torch.testing.assert_close(objective.states(memory, alone, hidden[:1, : alone.ids.shape[1]])[0], both[0])


def test_scores_are_those_of_texts_with_all_words_hidden() -> None:
    model, objective, images = towers(), masked(1.0), pairs().images
    texts = ["a b", "b a", "c", "a b c d"]
    scores = objective.score(model, images, TOKENS(texts))
    memory = model.image_encoder.forward_states(model.normalised(images)).patches.flatten(1, 2)
    for column, text in enumerate(texts):
        words = objective._words(TOKENS([text]))
        length = int(words.lengths[0])
        ids = words.ids[:, :length].expand(len(images), -1)
        whole = words._replace(ids=ids, lengths=words.lengths.expand(len(images)))
        states = objective.states(memory, whole, torch.ones_like(ids, dtype=torch.bool))
        log_p = objective.table.logits(states).log_softmax(-1).view(len(images), length, -1)
        expected = log_p.gather(2, ids.unsqueeze(2)).squeeze(2) + objective.vocabulary.shared_share(ids)
        torch.testing.assert_close(scores[:, column], expected.mean(1))


def test_tags_are_told_each_by_itself() -> None:
    model, batch = towers(), pairs(["a b", "c e"])
    objective = built(Tags(words=3, captions=100), model)
    assert isinstance(objective, Tags)
    encoded = model(batch.images, batch.tokens, objective.reads)
    assert encoded.image_embeds is not None
    logits = objective.logits(encoded.image_embeds)
    assert objective.dictionary.tolist() == [3, 4, 5]
    p = logits.sigmoid()
    expected = -(
        p[0, 0].log() + p[0, 1].log() + (1 - p[0, 2]).log() + (1 - p[1, 0]).log() + (1 - p[1, 1]).log() + p[1, 2].log()
    )
    torch.testing.assert_close(objective(encoded, batch).loss, expected / 2)
    scores = objective.score(model, batch.images, batch.tokens)
    no, yes = (1 - p[1]).log(), p[1].log()
    torch.testing.assert_close(scores[1], torch.stack([yes[0] + yes[1] + no[2], no[0] + no[1] + yes[2]]))
