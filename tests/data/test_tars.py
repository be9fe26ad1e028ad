"""Tars as people make them: which members are one sample, which is its picture, and what is damaged."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from cliplab.data.layout import DamagedPart
from cliplab.data.layouts.tars import TarReader
from cliplab.data.tar import index as index_module
from cliplab.data.tar.captions import captions_in
from cliplab.data.tar.index import index_tar
from cliplab.data.tar.members import Member, list_members
from cliplab.data.tar.samples import picture_field, tar_samples

from .conftest import png

PNG = png(3)


def write_tar(file: Path, members: Sequence[tuple[str, bytes]], mode: str = "w", **options: Any) -> Path:
    with tarfile.open(file, mode, **options) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file


def pairs(count: int, picture: bytes = PNG, first: int = 0) -> list[tuple[str, bytes]]:
    texts = [(f"{k:03}.txt", b"number %d" % k) for k in range(first, first + count)]
    return [member for k, text in enumerate(texts, first) for member in ((f"{k:03}.png", picture), text)]


def read(file: Path, *caption_names: str) -> dict[str, tuple[Any, Any]]:
    """Captions and picture bytes by key."""
    (found,) = [TarReader([str(file)], file.parent, caption_names=caption_names)]
    rows = []
    try:
        rows = [row.values for row in _until_damage(found)]
    finally:
        assert len(rows) == index_tar(file).table.num_rows
    return {row["__key__"]: (row["caption"], row["image"] and row["image"]["bytes"]) for row in rows}


def _until_damage(reader: TarReader) -> Any:
    try:
        yield from reader.rows(0)
    except DamagedPart:
        return


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


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats_and_long_names(kind: int, tmp_path: Path) -> None:
    long = f"{'folder/' * 20}{'n' * 90}é"
    members = [(f"{long}.jpg", PNG), (f"{long}.txt", b"a caption"), *pairs(2)]
    file = write_tar(tmp_path / "0.tar", members, format=kind)
    assert read(file) == {long: (["a caption"], PNG), "000": (["number 0"], PNG), "001": (["number 1"], PNG)}


def test_large_numbers_and_times_in_pax_headers(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of all"}) as tar:
        for name, data in pairs(2):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid = len(data), 1.5, 2**40
            tar.addfile(member, io.BytesIO(data))
    assert list(read(tmp_path / "0.tar")) == ["000", "001"]


def test_folders_links_and_empty_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, kind in (("a", tarfile.DIRTYPE), ("a/0.jpg", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(PNG) if name.endswith("jpg") else 0
            tar.addfile(member, io.BytesIO(PNG))
        for name, kind, target in (
            ("a/1.jpg", tarfile.LNKTYPE, "a/0.jpg"),
            ("a/2.jpg", tarfile.SYMTYPE, "../a/1.jpg"),
            ("a/3.jpg", tarfile.SYMTYPE, "/elsewhere.jpg"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
        for k in range(5):
            text = tarfile.TarInfo(f"a/{k}.txt")
            text.size = 1
            tar.addfile(text, io.BytesIO(b"%d" % k))
        tar.addfile(tarfile.TarInfo("a/4.jpg"))
    expected = {f"a/{k}": ([str(k)], PNG) for k in range(3)} | {"a/3": (["3"], None), "a/4": (["4"], b"")}
    assert read(tmp_path / "0.tar") == expected


@pytest.mark.parametrize("name", ["000.img", "000", "000.jpg_large", "000.jpg?size=2", "000.JPG", "000.bin"])
def test_a_picture_is_known_by_its_bytes(name: str, tmp_path: Path) -> None:
    assert read(write_tar(tmp_path / "0.tar", [(name, PNG), ("000.txt", b"one")])) == {"000": (["one"], PNG)}


def test_columns_are_the_members_too(tmp_path: Path) -> None:
    facts = json.dumps({"score": 3}).encode()
    write_tar(
        tmp_path / "0.tar", [("0.png", PNG), ("0.cls", b"7\n"), ("0.json", facts), ("1.jpg", PNG), ("1.txt", b"x")]
    )
    write_tar(tmp_path / "1.tar", [("0.webp", PNG), ("0.txt", b"\xef\xbb\xbfcaf\xc3\xa9"), ("0.caption", b"y")])
    reader = TarReader([str(tmp_path / f"{k}.tar") for k in range(2)], tmp_path)
    assert set(reader.columns) == {"__key__", "image", "caption", "cls", "jpg", "json", "png", "txt"}
    data = reader.dataset("train")
    assert data["cls"][:] == ["7\n", None, None]
    assert data["json"][0] == '{"score": 3}'
    assert data["caption"][:] == [None, ["x"], ["café"]]
    assert [bool(row["jpg"] and row["jpg"]["path"]) for row in data] == [False, True, False]
    assert [reader.place(k) for k in range(3)] == ["0.tar: 0", "0.tar: 1", "1.tar: 0"]
    image = data[2]["image"]
    with open(image["path"], "rb") as file:
        file.seek(image["offset"])
        assert file.read(image["size"]) == PNG


def compressed(data: bytes, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zst":
        with pyarrow.CompressedOutputStream(buffer, "zstd") as target:
            target.write(data)
            target.flush()
            return pyarrow.compress(data, "zstd", asbytes=True)
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](data)


@pytest.mark.parametrize("name", ["0.tar.gz", "0.tgz", "0.tar.bz2", "0.tar.xz", "0.tar.zst", "gzipped.tar"])
def test_compressed_tars(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path / "cache"))
    plain = write_tar(tmp_path / "plain", pairs(3)).read_bytes()
    kind = {"tgz": "gz", "tar": "gz"}.get(name.rsplit(".", 1)[-1], name.rsplit(".", 1)[-1])
    file = tmp_path / name
    file.write_bytes(compressed(plain, kind))
    assert list(read(file)) == ["000", "001", "002"]
    for kept in (tmp_path / "cache").rglob("*.tar"):
        kept.unlink()
    index_module._index.cache_clear()
    assert read(file)["001"] == (["number 1"], PNG), "unpacked again"


def test_a_compressed_tar_that_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path / "cache"))
    plain = write_tar(
        tmp_path / "plain", [(f"{k}.{s}", bytes(range(256)) * 40) for k in range(40) for s in ("jpg", "txt")]
    )
    file = tmp_path / "0.tar.gz"
    file.write_bytes(gzip.compress(plain.read_bytes(), 0)[:400_000])
    for _ in range(2):
        index_module._index.cache_clear()
        table, faults = index_tar(file)
        assert 10 < table.num_rows < 40
        assert faults[0][0] == "damaged_tar"
        assert "the compressed data are cut short or damaged" in faults[0][1]


def test_a_folder_that_cannot_hold_what_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "0.tgz").write_bytes(gzip.compress(write_tar(tmp_path / "plain", pairs(1)).read_bytes()))
    with pytest.raises(OSError, match=r"0.tgz is compressed and must be unpacked into .*CLIPLAB_CACHE=<folder>"):
        index_tar(tmp_path / "0.tgz")


WHOLE = 20  # samples in the tars that are damaged below; each takes 3 blocks: two headers, a text, and a picture
HEADER = 512


def damaged(file: Path, kind: str) -> None:
    """``pairs`` of 100-byte pictures: each sample is four blocks."""
    data = bytearray(write_tar(file, pairs(WHOLE, PNG[:100])).read_bytes())
    sample = 4 * HEADER
    cuts = {
        "in a picture": 10 * sample + HEADER + 40,
        "in a text": 10 * sample + 3 * HEADER + 3,
        "in a header": 10 * sample + 100,
        "between members": 10 * sample,
    }
    if kind in cuts:
        file.write_bytes(data[: cuts[kind]])
    elif kind == "a header overwritten":
        data[5 * sample : 5 * sample + HEADER] = b"\xaa" * HEADER
        file.write_bytes(data)
    elif kind == "one flipped bit":
        data[5 * sample + 2] ^= 1
        file.write_bytes(data)
    elif kind == "bytes lost":
        file.write_bytes(data[: 5 * sample + 700] + data[6 * sample + 33 :])
    elif kind == "begins in the middle":
        file.write_bytes(data[5 * sample + 30 :])


@pytest.mark.parametrize(
    ("kind", "found", "told"),
    [
        ("in a picture", 10, "cut short inside 010.png, at byte 21032"),
        ("in a text", 11, "cut short inside 010.txt, at byte"),
        ("in a header", 10, "cut short inside a header, at byte 20580"),
        ("between members", 10, "cut short: the closing blocks are missing, at byte 20480"),
        ("a header overwritten", 20, "a damaged header at byte 10240"),
        ("one flipped bit", 20, "a damaged header at byte 10240"),
        ("bytes lost", 20, "a damaged header at byte"),
        ("begins in the middle", 15, "a damaged header at byte 0"),
    ],
)
def test_damaged_tars_give_what_can_be_read(kind: str, found: int, told: str, tmp_path: Path) -> None:
    damaged(tmp_path / "0.tar", kind)
    table, faults = index_tar(tmp_path / "0.tar")
    assert faults[0][0] == "damaged_tar"
    assert told in faults[0][1]
    assert table.num_rows == found
    assert table["__key__"].to_pylist()[-1] == ("009" if found == 10 else "010" if found == 11 else "019")
    reader = TarReader([str(tmp_path / "0.tar")], tmp_path)
    with pytest.raises(DamagedPart, match=rf"0.tar: {told}.*: damaged_tar"):
        list(reader.rows(0))


@pytest.mark.parametrize(
    ("data", "reason", "told"),
    [
        (b"", "not_a_tar", "it has no bytes"),
        (b"<!DOCTYPE html><html>403</html>" * 40, "not_a_tar", "it is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "not_a_tar", "Git LFS pointer; fetch"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "not_a_tar", "an XML page"),
        (b"PK\3\4" + bytes(600), "not_a_tar", "a zip archive"),
        (bytes(range(1, 256)) * 9, "not_a_tar", "it is not a tar"),
        (bytes(10240), "empty_tar", "it has no samples"),
        (bytes(512), "empty_tar", "it has no samples"),
    ],
)
def test_what_is_no_tar_and_what_is_empty(data: bytes, reason: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "1.tar").write_bytes(data)
    table, faults = index_tar(tmp_path / "1.tar")
    assert table.num_rows == 0
    assert faults[0][0] == reason
    assert told in faults[0][1]
    write_tar(tmp_path / "0.tar", pairs(4))
    write_tar(tmp_path / "2.tar", pairs(4))
    reader = TarReader([str(tmp_path / f"{k}.tar") for k in range(3)], tmp_path)
    assert len(reader.dataset("train")) == 8
    assert {reason for _, reason in reader.damaged} == {reason}
    assert all(place.startswith("1.tar: ") and told in place for place, _ in reader.damaged)
    assert len(reader.damaged) == (1 if reason == "empty_tar" else 4), "as many as the others hold"
    with pytest.raises(ValueError, match=r"there is no sample in 1 tars; 1.tar: "):
        TarReader([str(tmp_path / "1.tar")], tmp_path).dataset("train")


def test_joined_archives_are_read_to_the_end(tmp_path: Path) -> None:
    parts = [write_tar(tmp_path / f"{k}.tar", pairs(2, first=2 * k)).read_bytes() for k in range(3)]
    (tmp_path / "all.tar").write_bytes(b"".join(parts))
    listing = list_members(tmp_path / "all.tar")
    assert [member.name for member in listing.members] == [name for name, _ in pairs(6)]
    assert (listing.closed, listing.faults) == (True, [])


def test_an_index_is_made_once_and_anew_when_the_tar_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_module, "KEPT_FROM", 0)
    file = write_tar(tmp_path / "0.tar", pairs(3))
    first = index_tar(file)
    index_module._index.cache_clear()
    made = index_module._made
    monkeypatch.setattr(index_module, "_made", lambda *_: pytest.fail("made again"))
    again = index_tar(file)
    assert again.table.equals(first.table)
    assert again.faults == first.faults
    monkeypatch.setattr(index_module, "_made", made)
    write_tar(file, pairs(5))
    assert index_tar(file).table.num_rows == 5
    for kept in (tmp_path / "cache").rglob("*.arrow"):
        kept.write_bytes(b"damaged")
    index_module._index.cache_clear()
    assert index_tar(file).table.num_rows == 5


def test_rows_begin_anywhere_and_the_same_key_in_two_tars_is_two_samples(tmp_path: Path) -> None:
    for k in range(2):
        write_tar(tmp_path / f"{k}.tar", pairs(100))
    reader = TarReader([str(tmp_path / f"{k}.tar") for k in range(2)], tmp_path)
    whole = list(reader.rows(1))
    assert len(whole) == 100
    for start in (0, 1, 63, 64, 99, 100):
        assert list(reader.rows(1, start)) == whole[start:]
    assert len(reader.dataset("train")) == 200
    assert (reader.place(5), reader.place(105)) == ("0.tar: 005", "1.tar: 005")
    assert whole[5].place == "1.tar: 005"


def test_the_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    def of(place: str, *members: tuple[str, bytes]) -> str:
        (tmp_path / place).mkdir()
        write_tar(tmp_path / place / "0.tar", members)
        return TarReader([str(tmp_path / place / "0.tar")], tmp_path / place).fingerprint

    assert of("a", *pairs(3)) == of("b", *pairs(3)) != of("c", *pairs(4))
