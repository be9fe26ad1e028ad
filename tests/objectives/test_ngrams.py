"""Phrases from a picture: a dictionary and the recursion of Jelinek and Mercer by hand, and likelihoods that add up."""

import math

import pytest
import torch
from torch import Tensor

from cliplab.models.clip import Encoded
from cliplab.objectives.ngrams import NGrams, as_keys, counted_ngrams

from .test_bag_of_words import TOKENS, corpus_of, towers
from .test_contrastive import Batch

A, B, C = 3, 4, 5
CAPTIONS = ["a b", "a b c", "a c", "b"]
# The n-grams that occur, at least once, up to three words
NGRAMS = [(A,), (B,), (C,), (A, B), (A, C), (B, C), (A, B, C)]


def prepared(**settings: float) -> NGrams:
    values = {"longest": 3, "least": 1, "ngrams": 100, "captions": 100, "smoothing": 0.25, **settings}
    objective = NGrams(**values)  # type: ignore[arg-type]
    objective.prepare(corpus_of(CAPTIONS))
    objective.build_heads(towers())
    with torch.no_grad():
        objective.head.weight.zero_()
    return objective


def with_shares(objective: NGrams, weights: dict[tuple[int, ...], float]) -> NGrams:
    """Logits so that n-grams with one beginning share as these numbers do."""
    with torch.no_grad():
        objective.head.bias.copy_(torch.tensor([weights.get(ngram, 1.0) for ngram in NGRAMS]).log())
    return objective


def test_the_dictionary_is_counted_and_cut_by_frequency() -> None:
    count = {"captions": 100, "longest": 3}
    assert list(counted_ngrams(corpus_of(CAPTIONS), least=1, most=100, **count)) == NGRAMS
    assert list(counted_ngrams(corpus_of(CAPTIONS), least=2, most=100, **count)) == [(A,), (B,), (C,), (A, B)]
    assert list(counted_ngrams(corpus_of(CAPTIONS), least=1, most=3, **count)) == [(A,), (B,), (C,)]
    assert list(counted_ngrams(corpus_of(CAPTIONS), least=1, most=100, captions=1, longest=2)) == [(A,), (B,), (A, B)]
    with pytest.raises(ValueError, match=r"have 7 phrases, and none of them 9 times; lower objective.least"):
        counted_ngrams(corpus_of(CAPTIONS), least=9, most=100, **count)


def test_keys_find_phrases_by_their_beginning() -> None:
    phrases = prepared().phrases
    numbers = {ngram: i for i, ngram in enumerate(NGRAMS)} | {(): -1}
    for ngram, i in numbers.items():
        for word in range(12):
            found = int(phrases.number(torch.tensor(i), torch.tensor(word)))
            assert found == numbers.get((*ngram, word), -2)
    assert int(phrases.number(torch.tensor(-2), torch.tensor(A))) == -2
    assert torch.equal(as_keys(NGRAMS, 12).sort().values, as_keys(NGRAMS, 12))


def test_the_recursion_by_hand() -> None:
    """Shares: of words a 1/2, b 1/4, c 1/4; after a: b 3/4, c 1/4; after b and after a b only c."""
    objective = with_shares(prepared(), {(A,): 2, (A, B): 3})
    encoded = Encoded(torch.eye(1, 4), None, torch.tensor(1.0))
    b_after_a = 0.25 * 3 / 4 + 0.75 / 4
    c_after_b = 0.25 * 1 + 0.75 / 4
    c_after_ab = 0.25 * 1 + 0.75 * c_after_b
    result = objective(encoded, Batch(tokens=TOKENS(["a b c"])))
    assert float(result.loss.detach()) == pytest.approx(-math.log(0.5 * b_after_a * c_after_ab), rel=1e-6)
    # After c nothing follows, so that a word alone decides; after a comes no a; e is unknown and ends what is before it.
    for text, expected in (("c b", 0.25 * 0.25), ("a a", 0.5 * 0.75 * 0.5), ("a e b", 0.5 * 0.25)):
        loss = objective(encoded, Batch(tokens=TOKENS([text]))).loss
        assert float(loss.detach()) == pytest.approx(-math.log(expected), rel=1e-6), text


def test_likelihoods_of_all_words_after_any_beginning_add_up_to_one() -> None:
    objective = prepared()
    with torch.no_grad():
        objective.head.weight.normal_()
    shares = objective._log_shares(torch.randn(1, 4))

    def share(numbers: Tensor) -> Tensor:
        return shares[0][numbers]

    for before in ("", "a", "b", "c", "a b", "a c", "c a b"):
        texts = TOKENS([f"{before} {word}" for word in "abc"])
        words, _ = objective.likelihoods(texts, share)
        last = words[:, len(before.replace(" ", "")) + 1]  # after the start token
        assert float(last.exp().sum().detach()) == pytest.approx(1, rel=1e-5), before


def test_a_score_is_the_mean_over_known_words() -> None:
    objective, model = prepared(), towers()
    with torch.no_grad():
        objective.head.weight.normal_()
    images = torch.rand(2, 3, 8, 8)
    scores = objective.score(model, images, TOKENS(["a b c", "b", "e", "b e"]))
    embeds = model.encode_image(images)
    for place, text, length in ((0, "a b c", 3), (1, "b", 1)):
        for image in range(2):
            encoded = Encoded(embeds[image : image + 1], None, torch.tensor(1.0))
            loss = objective(encoded, Batch(tokens=TOKENS([text]))).loss
            assert float(scores[image, place].detach()) == pytest.approx(-float(loss.detach()) / length, rel=1e-5)
    torch.testing.assert_close(scores[:, 3], scores[:, 1])
    torch.testing.assert_close(scores[:, 2], scores[:, :2].min(1).values)


def test_a_saved_dictionary_is_taken_over() -> None:
    first = prepared()
    again = NGrams(longest=3, least=1, ngrams=100, captions=100, smoothing=0.25)
    again.adopt(first.state_dict())
    again.prepare(corpus_of([]))
    again.build_heads(towers())
    again.load_state_dict(first.state_dict())
    assert torch.equal(again.dictionary, first.dictionary)


def test_smoothing_out_of_range_is_told() -> None:
    with pytest.raises(ValueError, match=r"objective.smoothing 1.0 must be 0 or more and below 1"):
        prepared(smoothing=1.0)


def test_the_first_prediction_is_the_frequency_of_the_phrases() -> None:
    counts = counted_ngrams(corpus_of(CAPTIONS), captions=100, longest=3, least=1, most=100)
    fresh = NGrams(longest=3, least=1, ngrams=100, captions=100, smoothing=0.2)
    fresh.prepare(corpus_of(CAPTIONS))
    fresh.build_heads(towers())
    torch.testing.assert_close(fresh.head.bias.detach().exp(), torch.tensor([float(n) for n in counts.values()]))
    assert counts[A, B] <= min(counts[(A,)], counts[(B,)])
