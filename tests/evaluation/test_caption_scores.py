"""Scores of captions: worked by hand, and BLEU beside that of torchmetrics."""

import math

import pytest

from cliplab.evaluation.caption_scores import bleu, caption_scores, cider, rouge_l, words_of


def words(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


def test_words_are_lower_case_and_without_punctuation() -> None:
    assert words_of("A red-haired Woman’s hat, 2nd!") == ["a", "red", "haired", "woman", "s", "hat", "2nd"]
    assert words_of("Café 赤い猫") == ["café", "赤", "い", "猫"]
    assert words_of("हिन्दी शब्द") == ["हिन्दी", "शब्द"]
    assert words_of(" … ") == []


def test_bleu_by_hand() -> None:
    """Six words and five phrases of two: 'the' counts twice at most, since one reference has it twice. The closest
    reference has six words."""
    written, references = words("the the the cat sat on"), [words("the cat is on the mat", "a cat sat on a big mat")]
    one, two, three, four = bleu(written, references)
    assert one == pytest.approx(5 / 6)
    assert two == pytest.approx(math.sqrt(5 / 6 * 3 / 5))
    assert three == pytest.approx((5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3))
    assert four == 0


def test_bleu_of_a_short_text_pays_for_its_length_and_of_two_close_ones_the_shorter_counts() -> None:
    assert bleu(words("a b"), [words("a b c d")])[0] == pytest.approx(math.exp(-1))
    assert bleu(words("a b c"), [words("a b", "a b c d")])[0] == 1
    assert bleu([[]], [words("a")]) == [0, 0, 0, 0]


def test_bleu_is_that_of_torchmetrics() -> None:
    from torchmetrics.functional.text import bleu_score

    written = ["a man on a red bike", "two dogs play in the snow", "a cat"]
    references = [
        ["a man rides a red bike", "man on a bike in a street"],
        ["two dogs play in snow", "dogs are playing in the deep snow"],
        ["a black cat on a sofa"],
    ]
    ours = bleu([text.split() for text in written], [[text.split() for text in of] for of in references])
    for n, score in enumerate(ours, start=1):
        assert score == pytest.approx(float(bleu_score(written, references, n_gram=n)), abs=1e-6)
    assert all(score > 0 for score in ours)


def test_rouge_l_by_hand() -> None:
    """Of 'police killed the gunman', 'police kill the gunman' has three words in order and 'the gunman kill police' two
    (Lin 2004). With lengths of four, precision and recall are equal, and so is F."""
    police = ["police", "killed", "the", "gunman"]
    assert rouge_l(["police", "kill", "the", "gunman"], [police]) == pytest.approx(3 / 4)
    assert rouge_l(["the", "gunman", "kill", "police"], [police]) == pytest.approx(2 / 4)
    half = rouge_l(["a"], [["a", "b"]])  # precision 1, recall 1/2
    assert half == pytest.approx((1 + 1.44) * 0.5 / (0.5 + 1.44))
    assert rouge_l(["a"], [["a", "b"], ["a"]]) == 1
    assert rouge_l([], [["a"]]) == rouge_l(["a"], [[]]) == 0


def test_cider_by_hand() -> None:
    """Every phrase of a reference is in one of two images, so all weigh log 2, and a cosine is that of the counts."""
    references = [words("a b c d e"), words("f g h i")]
    exact, other = cider(words("a b c d e", "f g"), references)
    assert exact == pytest.approx(10)
    cosines = [2 / math.sqrt(2 * 4), 1 / math.sqrt(3), 0, 0]
    assert other == pytest.approx(10 * sum(cosines) / 4 * math.exp(-(2**2) / (2 * 36)))


def test_cider_gives_nothing_for_common_words_and_repeating_one_gains_nothing() -> None:
    references = [words("the cat"), words("the dog")]
    assert cider(words("the", "the"), references) == [0, 0]
    repeated, right = cider(words("cat cat cat", "the dog"), references)
    alike = 1 / 3  # min(3, 1) * 1 / (3 * 1), of words alone: the phrase "cat cat" is in no reference
    assert repeated == pytest.approx(10 * alike / 4 * math.exp(-1 / 72))
    assert right == pytest.approx(10 * 2 / 4)  # its phrases of three and four words are not there


def test_several_references_are_averaged_and_identical_images_weigh_nothing() -> None:
    assert cider(words("a", "b"), [words("a", "c"), words("b")])[0] == pytest.approx(10 / 4 / 2)
    assert cider(words("a"), [words("a")]) == [0]  # of one image nothing is rare


def test_scores_of_a_corpus() -> None:
    scores = caption_scores(["Red car.", "a dog", "a dog"], [["a red car", "red car"], ["a dog"], ["two cats"]])
    assert scores.exact == [True, True, False]
    assert scores.rouge_l == [1, 1, 0]
    assert scores.metrics["exact"] == scores.metrics["ROUGE_L"] == pytest.approx(2 / 3)
    assert scores.metrics["distinct"] == 2
    assert scores.metrics["Bleu_4"] == 0
