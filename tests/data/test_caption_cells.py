"""The captions in a cell of a table, and why a cell has none."""

from typing import Any

import pytest

from cliplab.data.caption_cells import captions_of
from cliplab.data.images import BadImage


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("one", ["one"]),
        ("one\n\n two \n", ["one", "two"]),
        ({"txt": "three"}, ["three"]),
        ("x" * 20_000_000, ["x" * 10_000]),
        (b"caf\xc3\xa9 \xff", ["café \ufffd"]),
        (["a", None, "b"], ["a", "b"]),
        ([{"raw": "a"}, {"raw": "b"}], ["a", "b"]),
    ],
)
def test_captions_in_a_cell(cell: Any, expected: list[str]) -> None:
    assert captions_of(cell) == expected


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "no_caption"),
        ([], "no_caption"),
        ("", "empty_caption"),
        ([" ", None], "empty_caption"),
        (3, "caption_not_text"),
        ([{"raw": 2.5}], "caption_not_text"),
    ],
)
def test_no_caption_in_a_cell(cell: Any, reason: str) -> None:
    with pytest.raises(BadImage) as raised:
        captions_of(cell)
    assert raised.value.reason == reason
