"""Tars of all formats, compressed and damaged ones: their samples, and what is reported as damaged."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from cliplab.data.layout import DamagedPart, Unusable
from cliplab.data.layouts.tars import TarReader
from cliplab.data.shards import Recipe, make_ready
from cliplab.data.sources import caption_source
from cliplab.data.tar import index as index_module
from cliplab.data.tar.index import index_tar
from cliplab.data.tar.members import list_members

from .tars import PNG, pairs, read, write_tar


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
    ("kind", "found", "message"),
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
def test_damaged_tars_give_what_can_be_read(kind: str, found: int, message: str, tmp_path: Path) -> None:
    damaged(tmp_path / "0.tar", kind)
    table, faults = index_tar(tmp_path / "0.tar")
    assert faults[0][0] == "damaged_tar"
    assert message in faults[0][1]
    assert table.num_rows == found
    assert table["__key__"].to_pylist()[-1] == ("009" if found == 10 else "010" if found == 11 else "019")
    reader = TarReader([str(tmp_path / "0.tar")], tmp_path)
    with pytest.raises(DamagedPart, match=rf"0.tar: {message}.*: damaged_tar"):
        list(reader.rows(0))


@pytest.mark.parametrize(
    ("data", "reason", "message"),
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
def test_what_is_no_tar_and_what_is_empty(data: bytes, reason: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "1.tar").write_bytes(data)
    table, faults = index_tar(tmp_path / "1.tar")
    assert table.num_rows == 0
    assert faults[0][0] == reason
    assert message in faults[0][1]
    write_tar(tmp_path / "0.tar", pairs(4))
    write_tar(tmp_path / "2.tar", pairs(4))
    reader = TarReader([str(tmp_path / f"{k}.tar") for k in range(3)], tmp_path)
    assert len(reader.dataset("train")) == 8
    assert {reason for _, reason in reader.damaged} == {reason}
    assert all(place.startswith("1.tar: ") and message in place for place, _ in reader.damaged)
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


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_that_a_damaged_tar_has_lost_are_read_as_unusable(streaming: bool, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", pairs(WHOLE, PNG[:100]))
    damaged(tmp_path / "1.tar", "in a picture")
    write_tar(tmp_path / "2.tar", pairs(WHOLE, PNG[:100]))
    source = caption_source(path=str(tmp_path), **({"streaming": True, "samples_per_epoch": 9} if streaming else {}))
    rows = list(source.raw_rows())
    lost = [row for row in rows if isinstance(row, Unusable)]
    assert len(rows) == 3 * WHOLE
    assert [row.reason for row in lost] == ["damaged_tar"] * 10
    assert lost[0].place == "1.tar: cut short inside 010.png, at byte 21032"
    assert list(source.raw_rows(35)) == rows[35:]
    assert len(make_ready(list(enumerate(rows)), source.rows, Recipe(None, "jpeg", 90, None))) == 3 * WHOLE
