"""Words from a picture: a dictionary made by counting, a loss and scores worked out by hand."""

import math
from collections.abc import Iterator, Sequence

import pytest
import torch

from cliplab.models.clip import CLIP, Encoded
from cliplab.models.tokens import Tokens
from cliplab.models.vision_transformer import VisionTransformer
from cliplab.models.word_vectors import WordVectors
from cliplab.objectives.bag_of_words import BagOfWords
from cliplab.objectives.contrastive import BagOfWordsClipLoss, ClipLoss
from cliplab.objectives.objective import Corpus
from cliplab.objectives.tags import Tags

from .test_contrastive import Batch

START, END, PAD = 1, 2, 0


class Letters:
    """A letter is a word: ``a`` is 3, ``b`` is 4."""

    context_length, truncated, fingerprint = 8, 0, "letters"

    def __call__(self, texts: Sequence[str]) -> Tokens:
        rows = [[START, *(ord(c) - ord("a") + 3 for c in text if c != " "), END] for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(lengths.max())), PAD)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        return Tokens(ids, lengths)


TOKENS = Letters()


def corpus_of(captions: Sequence[str]) -> Corpus:
    def first(most: int) -> Iterator[str]:
        yield from captions[:most]

    return Corpus(first, TOKENS)


CAPTIONS = ["a b", "a a c", "a b d", "e"]


def towers() -> CLIP:
    torch.manual_seed(2)
    image = VisionTransformer(image_size=8, patch_size=4, width=8, layers=1, heads=2, output_dim=4)
    return CLIP(image, WordVectors(vocab_size=12, context_length=8, output_dim=4), embed_dim=4).eval()


def prepared(**settings: int) -> BagOfWords:
    objective = BagOfWords(**{"words": 3, "captions": 100, **settings})
    objective.prepare(corpus_of(CAPTIONS))
    objective.build_heads(towers())
    return objective


def test_the_dictionary_holds_the_words_of_most_captions() -> None:
    """``a`` is in three captions, ``b`` in two, and of the others the first by id."""
    assert prepared().dictionary.tolist() == [3, 4, 5]
    assert prepared(skipped_words=1).dictionary.tolist() == [4, 5, 6]
    assert prepared(captions=1).dictionary.tolist() == [3, 4]


def test_the_loss_by_hand() -> None:
    """Two words of the first caption are known, one of the second, none of the third."""
    objective = prepared()
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    encoded = Encoded(torch.eye(3, 4), None, torch.tensor(1.0))
    result = objective(encoded, Batch(tokens=TOKENS(["a b b d", "c", "e"])))
    assert float(result.loss.detach()) == pytest.approx(-(0.5 * math.log(0.5 * 0.3) + math.log(0.2)) / 3, rel=1e-6)
    assert float(result.figures["word_accuracy"]) == pytest.approx(1 / 3)  # a is the likeliest word


def test_a_score_is_minus_the_divergence_from_the_words_of_a_text() -> None:
    objective, model = prepared(), towers()
    images = torch.rand(2, 3, 8, 8)
    scores = objective.score(model, images, TOKENS(["a b", "b a a", "c", "e", "a e"]))
    log_p = objective.log_probabilities(model.encode_image(images))
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(2))
    torch.testing.assert_close(scores[:, 0], (log_p[:, 0] + log_p[:, 1]) / 2 + math.log(2))
    torch.testing.assert_close(scores[:, 1], scores[:, 0])
    torch.testing.assert_close(scores[:, 2], log_p[:, 2])
    torch.testing.assert_close(scores[:, 3], log_p.min(1).values)
    torch.testing.assert_close(scores[:, 4], log_p[:, 0])


def test_a_name_scores_above_its_parts_where_all_its_words_are_seen() -> None:
    """By mean log-probabilities alone, "a" would score as "a b" does."""
    objective, model = prepared(), towers()
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.copy_(torch.tensor([0.45, 0.45, 0.1]).log())
    both, part, more = objective.score(model, torch.rand(1, 3, 8, 8), TOKENS(["a b", "a", "a b c"]))[0].tolist()
    assert both == pytest.approx(math.log(0.9), abs=1e-5)
    assert part == pytest.approx(math.log(0.45), abs=1e-5)
    assert more == pytest.approx(math.log(0.45 * 0.45 * 0.1) / 3 + math.log(3), abs=1e-5)


def test_the_first_prediction_is_the_frequency_of_the_words() -> None:
    """``a`` stands in three of four captions, ``b`` in two and ``c`` in one; "a a c" has ``a`` once."""
    shares = torch.tensor([3.0, 2.0, 1.0])
    torch.testing.assert_close(prepared().head.bias.detach().exp(), shares / 6)
    tags = Tags(words=3, captions=100)
    tags.prepare(corpus_of(CAPTIONS))
    tags.build_heads(towers())
    torch.testing.assert_close(tags.head.bias.detach().sigmoid(), shares / 4)


def test_padding_and_special_tokens_are_no_words() -> None:
    objective = prepared()
    alone, among = objective.targets(TOKENS(["a"])), objective.targets(TOKENS(["a", "a b c d e"]))
    assert torch.equal(alone[0], among[0])
    assert alone.tolist() == [[1, 0, 0]]


def test_a_saved_dictionary_is_taken_over_and_captions_are_not_read_again() -> None:
    first = prepared()
    again = BagOfWords(words=3, captions=100)
    again.adopt(first.state_dict())
    again.prepare(corpus_of([]))
    again.build_heads(towers())
    again.load_state_dict(first.state_dict())
    assert torch.equal(again.dictionary, first.dictionary)


def test_no_word_left_is_told_with_the_way_on() -> None:
    with pytest.raises(ValueError, match=r"5 different words, and objective.skipped_words 9 leaves none; lower it"):
        prepared(skipped_words=9)
    with pytest.raises(ValueError, match=r"the training captions have no words; check data.train.caption_columns"):
        BagOfWords(words=3, captions=100).prepare(corpus_of(["", " "]))


def test_the_tower_adds_up_vectors_in_any_order_and_beside_any_padding() -> None:
    tower = towers().text_encoder
    together = tower(TOKENS(["a b", "b a", "a b c d e"]))
    torch.testing.assert_close(together[0], together[1])
    assert torch.equal(tower(TOKENS(["a b"]))[0], together[0])
    vectors = tower.token_embedding.weight
    torch.testing.assert_close(together[0], vectors[[START, 3, 4, END]].sum(0))
    states = tower.forward_states(TOKENS(["a", "a b"]))
    assert torch.equal(states.tokens[0, 3], torch.zeros(4))


def test_the_contrastive_choice_asks_for_its_tower() -> None:
    BagOfWordsClipLoss().build_heads(towers())
    model = towers()
    model.text_encoder = torch.nn.Linear(1, 1)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="not Linear; add model/text_encoder=bag_of_words"):
        BagOfWordsClipLoss().build_heads(model)
    ClipLoss().build_heads(model)
