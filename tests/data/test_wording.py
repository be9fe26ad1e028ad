"""Sentences and frames, drawn by the sample's own generator."""

import numpy as np
import pytest

from cliplab.data.order import sample_rng
from cliplab.data.rows import CaptionRows, RowSettings
from cliplab.data.wording import Wording, sentences


def test_sentences() -> None:
    assert sentences("One. Two!  Three?\nFour") == ["One.", "Two!", "Three?", "Four"]
    assert sentences("まる。しかく。") == ["まる。", "しかく。"]
    assert sentences("a 2.5 m wall") == ["a 2.5 m wall"]
    assert sentences("") == [""]


def test_a_sample_always_gets_the_same_words_and_samples_differ() -> None:
    wording = Wording("sentence", ["{}", "look: {}"])
    said = [wording("a. b. c.", sample_rng(1, 0, i)) for i in range(200)]
    assert said == [wording("a. b. c.", sample_rng(1, 0, i)) for i in range(200)]
    assert set(said) == {f"{frame}{part}." for frame in ("", "look: ") for part in "abc"}


def test_captions_of_further_columns_are_captions_too_and_the_order_of_samples_knows() -> None:
    row = {"image": b"", "name": "cat", "nom": "chat"}
    plain = CaptionRows(list(row), "here", RowSettings(caption_columns=["name"]))
    wordy = CaptionRows(
        list(row),
        "here",
        RowSettings(caption_columns=["name"], further_caption_columns=["nom"], caption_templates=["a {}"]),
    )
    assert plain.captions(row) == ["cat"]
    assert wordy.captions(row) == ["cat", "chat"]
    assert {wordy.choose(row, 0, np.random.default_rng(i)) for i in range(20)} == {"a cat", "a chat"}
    assert plain.order_facts != wordy.order_facts
    assert "Wording" not in plain.order_facts
    with pytest.raises(ValueError, match="no caption column among image, name, nom; looked for nam"):
        CaptionRows(list(row), "here", RowSettings(caption_columns=["name"], further_caption_columns=["nam"]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"caption_part": "word"}, "data.train.caption_part 'word' must be one of whole, sentence"),
        ({"caption_templates": ["no place"]}, "data.train.caption_templates: 'no place' must hold"),
    ],
)
def test_what_cannot_be_is_told(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RowSettings(**values)
