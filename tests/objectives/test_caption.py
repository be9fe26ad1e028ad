"""Captions from a decoder: no sight of the future, likelihoods that add up to 1, a trie that equals plain scoring."""

import itertools
import math

import pytest
import torch

from cliplab.models.clip import CLIP
from cliplab.models.tokens import Tokens
from cliplab.objectives.caption import Caption
from cliplab.objectives.contrastive import ClipLoss
from cliplab.objectives.masked_caption import MaskedCaption
from cliplab.objectives.objective import features_of
from cliplab.objectives.vocabulary import Vocabulary, backwards, marks_of

from .decoding import CAPTIONS, VOCABULARY, built, pairs, towers
from .test_bag_of_words import END, START, TOKENS, corpus_of

SIZES = {"width": None, "layers": None, "heads": None}


def caption(model: CLIP, directions: str = "forward", captions: int = 100, **settings: float) -> Caption:
    objective = built(Caption(directions=directions, captions=captions, **SIZES, **settings), model)  # type: ignore[arg-type]
    assert isinstance(objective, Caption)
    return objective


def plain(objective: Caption, model: CLIP, text: str, row: int) -> list[float]:
    """The log-probability of each word of one text for one picture, in the forward direction."""
    images, words = pairs().images[row : row + 1], objective.vocabulary.words(TOKENS([text]))
    states, _ = objective.states(objective.decoders[0], objective._memory(model, images), words)
    log_p = objective.table.logits(states).log_softmax(-1)
    return log_p.gather(1, words.ids[0, : int(words.lengths[0])].unsqueeze(1))[:, 0].tolist()


def test_a_vocabulary_has_a_row_for_each_seen_token_and_one_for_the_others() -> None:
    vocabulary = Vocabulary(100)
    vocabulary.prepare(corpus_of(CAPTIONS))
    vocabulary.build(VOCABULARY)
    assert marks_of(TOKENS) == (START, END)
    assert vocabulary.tokens.tolist() == [END, 3, 4, 5]
    words = vocabulary.words(TOKENS(["a c", "d"]))
    assert words.ids[0].tolist() == [1, 3, 0]
    assert words.ids[1, :2].tolist() == [4, 0]
    assert words.lengths.tolist() == [3, 2]
    assert vocabulary.shared_share(words.ids)[1, 0] == pytest.approx(-math.log(8))
    assert backwards(words).ids[0].tolist() == [3, 1, 0]


def test_a_later_word_changes_nothing_before_it() -> None:
    model = towers()
    objective = caption(model)
    first, second = plain(objective, model, "a b c a", 0), plain(objective, model, "a b a", 0)
    assert first[:2] == pytest.approx(second[:2], abs=1e-6)
    assert first[2] != pytest.approx(second[2], abs=1e-3)


def test_the_loss_is_the_mean_over_the_words_of_the_batch() -> None:
    model, batch = towers(), pairs()
    objective = caption(model)
    loss = objective(model(batch.images, batch.tokens, objective.reads), batch).loss
    words = [x for row, text in enumerate(CAPTIONS) for x in plain(objective, model, text, row)]
    assert float(loss.detach()) == pytest.approx(-sum(words) / len(words), rel=1e-5)


def test_logits_in_pieces_have_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = towers(), pairs()
    objective = caption(model, "both")
    gradients = []
    for most in (2**26, 10):
        monkeypatch.setattr("cliplab.objectives.word_table.MOST_LOGITS", most)
        objective.zero_grad()
        objective(model(batch.images, batch.tokens, objective.reads), batch).loss.backward()
        gradients.append([p.grad.clone() for p in objective.parameters() if p.grad is not None])
    for whole, pieces in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, pieces)


def test_the_likelihoods_of_all_continuations_add_up_to_one() -> None:
    """Each text of up to two tokens that ends, and each of three tokens that has not ended, over the whole vocabulary."""
    model = towers()
    objective = caption(model)
    tokens = [token for token in range(VOCABULARY) if token != END]
    ended = [[*text, END] for n in range(3) for text in itertools.product(tokens, repeat=n)]
    open_ = [list(text) for text in itertools.product(tokens, repeat=3)]
    total = torch.zeros(2)
    for texts in (ended, open_):
        rows = [torch.tensor([START, *text]) for text in texts]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        total += objective.score(model, pairs().images[:2], Tokens(ids, lengths)).detach().exp().sum(1)
    torch.testing.assert_close(total, torch.ones(2))


TEXTS = ["a b", "a b c", "b", "a b c a", "", "c", "b a c", "d", "a b"]


@pytest.mark.parametrize("captions", [100, 0], ids=["shared row", "every token"])
def test_a_trie_scores_as_each_text_alone(captions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = towers(), pairs().images
    objective = caption(model, captions=captions)
    monkeypatch.setattr("cliplab.objectives.scoring.MOST_TEXTS", 5)
    monkeypatch.setattr("cliplab.objectives.scoring.MOST_VALUES", 1000)
    monkeypatch.setattr("cliplab.objectives.scoring.MOST_LOGITS", 20)
    scores = objective.score(model, images, TOKENS(TEXTS))
    shares = [objective.vocabulary.shared_share(objective.vocabulary.words(TOKENS([t])).ids).sum() for t in TEXTS]
    expected = [
        [sum(plain(objective, model, t, i)) + float(s) for t, s in zip(TEXTS, shares)] for i in range(len(images))
    ]
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores[:, 0], scores[:, -1])


def test_both_directions_share_vectors_and_their_scores_have_a_mean() -> None:
    model, images = towers(), pairs().images
    objective = caption(model, "both")
    memory = objective._memory(model, images)
    ways = objective._ways(objective.vocabulary.words(TOKENS(TEXTS)))
    alone = [objective._one_way(decoder, memory, words) for decoder, words in ways]
    torch.testing.assert_close(objective.score(model, images, TOKENS(TEXTS)), (alone[0] + alone[1]) / 2)
    assert not torch.allclose(*alone)
    assert sum(p.numel() for p in objective.parameters()) < 2 * sum(p.numel() for p in caption(model).parameters())


def test_a_prior_is_taken_from_a_grey_picture() -> None:
    model, images = towers(), pairs().images
    without, with_prior = caption(model), caption(model, prior=0.5)
    grey = model.image_mean.expand(1, 3, 8, 8)
    expected = without.score(model, images, TOKENS(TEXTS)) - 0.5 * without.score(model, grey, TOKENS(TEXTS))
    torch.testing.assert_close(with_prior.score(model, images, TOKENS(TEXTS)), expected)


def test_a_decoder_begins_with_the_frequencies_of_the_words() -> None:
    """Of four captions "a" stands five times, "b" three times and "c" twice; the end once in each. A hidden word is no
    end, so there it counts as met once, as the shared row does."""
    model, sizes = towers(), {**SIZES, "captions": 100}
    for objective, ends in (
        (Caption(directions="forward", **sizes), 4),
        (MaskedCaption(seed=1, share=0.3, **sizes), 1),
    ):
        objective.prepare(corpus_of(CAPTIONS))
        objective.build_heads(model)
        vocabulary = objective.vocabulary
        bias = objective.table.bias.detach()
        counted = dict(zip(vocabulary.tokens.tolist(), (bias[:-1] - bias[-1]).exp().tolist(), strict=True))
        end = int(vocabulary.marks[1])
        assert counted.pop(end) == pytest.approx(ends)
        assert list(counted.values()) == pytest.approx([5, 3, 2])
        assert float(bias.exp().sum()) == pytest.approx(1)


def test_features_for_a_probe_are_the_states_that_the_decoder_reads() -> None:
    model, images = towers(), pairs().images
    features = features_of(caption(model), model)
    assert features is not None
    states = model.image_encoder.forward_states(model.normalised(images)).patches
    expected = states.flatten(1, 2).mean(1)
    torch.testing.assert_close(features(images), expected / expected.norm(dim=1, keepdim=True))
    assert features_of(ClipLoss(), model) is None
