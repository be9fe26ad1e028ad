"""The very ids of open_clip's tokenizer."""

import random

import open_clip
import pytest
import torch

from cliplab.data.tokenizers import CLIPTokenizer

TRICKY = [
    "",
    " ",
    "a photo of a cat",
    "A Photo of a CAT!!!",
    "don't they're we'll I've she'd",
    "fish &amp; chips &amp;amp; salt &lt;b&gt; &eacute; &#128512;",
    "tabs\tand\nnew lines\r\n  and\u00a0hard\u2003spaces",
    "ÉCOLE naïve Straße İstanbul ǅ ﬁne",
    "schÃ¶n â€œquotesâ€\x9d mojibake",
    "猫が好き 고양이 кошка قطة",
    "👩🏽‍🚒 🏳️‍🌈 1️⃣ ©️",
    "3.14159 2,000,000 1st 4K 1e-5",
    "<|endoftext|> and <|startoftext|> as plain words",
    "@user #tag https://example.org/a_b?c=d%20e",
    "zero\u200bwidth\u200djoiner\ufeff",
    "'s 't '' \" ` ´",
    "word " * 200,
    "x" * 500,
    "…—–•",
    "\x00\x01\x1f\x7f",
]


def reference(texts: list[str]) -> torch.Tensor:
    return open_clip.SimpleTokenizer()(texts, context_length=77)


def compare(texts: list[str]) -> None:
    tokens, theirs = CLIPTokenizer(77)(texts), reference(texts)
    assert tokens.ids.dtype == torch.int64
    for text, ids, length, row in zip(texts, tokens.ids, tokens.lengths, theirs, strict=True):
        assert ids[:length].tolist() == row[: int(length)].tolist(), repr(text)
        assert int(length) == int(row.argmax()) + 1, repr(text)
        assert not ids[length:].any()
        assert not row[int(length) :].any(), repr(text)


@pytest.mark.parametrize("text", TRICKY, ids=repr)
def test_ids_equal_open_clip_on_tricky_text(text: str) -> None:
    compare([text])


def test_ids_equal_open_clip_on_random_text() -> None:
    rng = random.Random(0)
    alphabets = [range(32, 127), range(160, 592), range(0x400, 0x460), range(0x4E00, 0x4E60), range(0x1F600, 0x1F650)]
    words = ["photo", "of", "the", "&amp;", "'s", "2024", "  ", "\n", "é", "cat-like", "🦊"]
    texts = []
    for _ in range(2000):
        alphabet = rng.choice(alphabets)
        parts = ["".join(chr(rng.choice(alphabet)) for _ in range(rng.randint(1, 8))) for _ in range(rng.randint(0, 6))]
        parts += rng.choices(words, k=rng.randint(0, 6))
        rng.shuffle(parts)
        texts.append(rng.choice(["", " "]).join(parts))
    compare(texts)


def test_padding_reaches_the_longest_only() -> None:
    tokens = CLIPTokenizer(77)(["a cat", "a photo of a big cat", ""])
    assert tokens.lengths.tolist() == [4, 8, 2]
    assert tokens.ids.shape == (3, 8)


def test_long_text_is_cut_keeps_its_end_and_is_counted() -> None:
    tokenizer = CLIPTokenizer(10)
    tokens = tokenizer(["word " * 8, "word " * 9, "short"])
    assert tokens.lengths.tolist() == [10, 10, 3]
    assert tokens.ids[1, -1] == tokenizer.end_token
    assert tokenizer.truncated == 1


def test_context_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="context_length 2 leaves no room"):
        CLIPTokenizer(2)
