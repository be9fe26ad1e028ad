"""Which members of a tar form a sample, and which of them are its image and its captions."""

import pytest

from cliplab.data.tar.captions import captions_in
from cliplab.data.tar.members import Member
from cliplab.data.tar.samples import picture_field, tar_samples


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("0.jpg 0.txt 1.png 1.txt 2.webp 2.txt", {"0": "jpg txt", "1": "png txt", "2": "webp txt"}),
        ("0.txt 1.txt 0.jpg 1.jpg", {"0": "txt jpg", "1": "txt jpg"}),  # not adjacent, any order
        ("0.JPG 0.TXT 1.Jpeg 1.txt", {"0": "jpg txt", "1": "jpeg txt"}),
        ("a/0.jpg a/0.txt b/0.jpg b/0.txt", {"a/0": "jpg txt", "b/0": "jpg txt"}),
        ("./a/0.jpg a/0.txt /b/1.jpg ./b/1.txt", {"a/0": "jpg txt", "b/1": "jpg txt"}),
        ("train.v1/0.jpg train.v1/0.txt", {"train.v1/0": "jpg txt"}),
        ("images/7.jpg images/8.jpg texts/7.txt texts/8.txt", {"7": "jpg txt", "8": "jpg txt"}),
        ("._0.jpg ._0.txt .DS_Store __MACOSX/._0.jpg 0.jpg 0.txt __index__ Thumbs.db", {"0": "jpg txt"}),
        # fields with dots in them
        ("0.input.jpg 0.outputs.txt 1.input.jpg 1.outputs.txt", dict.fromkeys("01", "input.jpg outputs.txt")),
        ("0.left.jpg 0.right.jpg 0.txt", {"0": "left.jpg right.jpg txt"}),
        ("0.jpg 0.txt 0.seg.png", {"0": "jpg txt seg.png"}),
        ("a.1.jpg a.2.jpg a.json b.1.jpg b.json", {"a": "1.jpg 2.jpg json", "b": "1.jpg json"}),
        ("X.jpg X.info.json X.jpg.json", {"X": "jpg info.json jpg.json"}),
        # names with dots in them
        (
            "img.v1.01.jpg img.v1.01.txt img.v1.02.jpg img.v1.02.txt",
            dict.fromkeys(("img.v1.01", "img.v1.02"), "jpg txt"),
        ),
        ("22.05.png 22.05.txt 22.06.png", {"22.05": "png txt", "22.06": "png"}),
        ("22.05.png 22.06.txt 23.07.png 23.07.txt", {"22.05": "png", "22.06": "txt", "23.07": "png txt"}),
        ("22.05.png 22.05.json 22.06.png 22.06.json", {"22.05": "png json", "22.06": "png json"}),
        ("a.1.jpg a.1.txt a.1.seg.png a.2.jpg a.2.txt", {"a.1": "jpg txt seg.png", "a.2": "jpg txt"}),
        ("a.l.jpg a.l.txt a.r.jpg a.r.txt a.json", {"a.l": "jpg txt", "a.r": "jpg txt"}),
        ("Track 2.0 (C).jpg|Track 2.0 (C).txt", {"Track 2.0 (C)": "jpg txt"}),
        # names that come again
        ("0.jpg 0.txt 0.jpg 0.txt", {"0": "jpg txt", "0 (again, 2)": "jpg txt"}),
        ("0.jpg 0.txt 0.txt", {"0": "jpg txt"}),
        ("0 0.txt", {"0": " txt"}),
    ],
)
def test_members_that_are_one_sample(names: str, expected: dict[str, str]) -> None:
    members = [Member(name, 512 * k, 1) for k, name in enumerate(names.split("|" if "|" in names else " "))]
    assert {sample.key: " ".join(sample.fields) for sample in tar_samples(members)} == expected


def test_a_repeated_text_replaces_the_first() -> None:
    members = [Member("0.txt", 1, 1), Member("0.jpg", 2, 1), Member("0.txt", 3, 1)]
    assert [sample.fields["txt"].offset for sample in tar_samples(members)] == [3]


@pytest.mark.parametrize(
    ("fields", "picture"),
    [("txt jpg", "jpg"), ("seg.png jpg", "jpg"), ("left.png right.png", "left.png"), ("txt json", None), ("bin", None)],
)
def test_the_field_that_is_the_picture(fields: str, picture: str | None) -> None:
    assert picture_field(fields.split()) == picture


@pytest.mark.parametrize(
    ("texts", "wanted", "expected"),
    [
        ({"txt": "a"}, "", ["a"]),
        ({"json": '{"caption": "b"}', "txt": "a"}, "", ["a"]),
        ({"json": '{"caption": "b"}', "txt": " \n"}, "", ["b"]),
        ({"caption": "c"}, "", ["c"]),
        ({"outputs.txt": "d"}, "", ["d"]),
        ({"0.txt": "d", "1.txt": "e"}, "", ["d", "e"]),
        ({"json": '{"url": "u", "Alt_Text": "e"}'}, "", ["e"]),
        ({"json": '{"captions": ["f", null, "g"]}'}, "", ["f", "g"]),
        ({"json": '{"sentences": [{"raw": "h"}, {"raw": "i"}]}'}, "", ["h", "i"]),
        ({"json": '["j", "k"]'}, "", ["j", "k"]),
        ({"json": '"l"'}, "", ["l"]),
        ({"json": '{"caption": 7}'}, "", ["7"]),
        ({"json": '{"caption": NaN}'}, "", None),
        ({"json": '{"caption": NaN, "title": "m"}'}, "", ["m"]),
        ({"json": '{"captions": [NaN, "f"]}'}, "", ["f"]),
        ({"info.json": '{"title": "m"}'}, "", ["m"]),
        ({"json": '{"caption": "n", "long": "o"}', "txt": "p"}, "long", ["o"]),
        ({"json": '{"a": {"b": ["q"]}}'}, "a.b", ["q"]),
        ({"json": '{"other": "x"}', "txt": "r"}, "long", ["r"]),
        ({"txt": ""}, "", [""]),
        ({"json": "{cut", "cls": "3"}, "", None),
        ({"json": '{"url": "u"}'}, "", None),
        ({}, "", None),
    ],
)
def test_captions_of_a_sample(texts: dict[str, str], wanted: str, expected: list[str] | None) -> None:
    assert captions_in(texts, wanted.split()) == expected
