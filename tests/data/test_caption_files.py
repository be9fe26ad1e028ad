"""Folders of pictures: texts of the same name beside them, pictures in zip files, paths that name their folder twice."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pytest

from cliplab.data.captions import ByRowSettings, CaptionDataset, open_captions
from cliplab.data.images import BadImage
from cliplab.data.opening import Location, open_layout

from .conftest import picture, png


def _open(path: Path, **options: Any) -> CaptionDataset:
    return open_captions(Location(str(path), **options), ByRowSettings())


def _pairs(source: CaptionDataset) -> dict[str, list[str]]:
    """The captions by the green of the first pixel, which tells the pictures apart."""
    return {source.picture(k).getpixel((0, 0))[1]: source.all_captions(k) for k in range(len(source))}


def _expected(count: int) -> dict[int, list[str]]:
    return {255 - 20 * k: [f"caption {k}"] for k in range(count)}


def _with_texts(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        picture(k).save(folder / f"{k:09}.PNG", "PNG")
        (folder / f"{k:09}.txt").write_text(f"caption {k}")
        (folder / f"{k:09}.json").write_text(json.dumps({"caption": f"field {k}", "title": f"title {k}"}))


def test_texts_beside_pictures_are_their_captions(tmp_path: Path) -> None:
    _with_texts(tmp_path / "00000", 4)
    (tmp_path / "readme.txt").write_text("about the set")
    assert _pairs(_open(tmp_path)) == _expected(4)
    rows = [row for part in range(1) for row in open_layout(Location(str(tmp_path))).rows(part, 1)]
    assert [(row.place, row.values["caption"]) for row in rows] == [
        (f"00000/{k:09}.PNG", [f"caption {k}"]) for k in (1, 2, 3)
    ]


def test_a_table_about_a_folder_of_pictures_beside_it_is_not_read(tmp_path: Path) -> None:
    _with_texts(tmp_path / "00000", 4)
    datasets.Dataset.from_dict({"url": ["http://a/b.png"] * 4, "key": ["0"] * 4}).to_parquet(tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 4}')
    assert _pairs(_open(tmp_path)) == _expected(4)


def test_a_field_beside_pictures_may_be_named(tmp_path: Path) -> None:
    _with_texts(tmp_path / "a", 2)
    assert list(_pairs(_open(tmp_path, reader={"caption_names": ["title"]})).values()) == [["title 0"], ["title 1"]]
    with pytest.raises(ValueError, match="separator: no such option"):
        _open(tmp_path, reader={"separator": ";"})


def test_a_blank_or_missing_text_gives_way_to_the_field_or_is_counted(tmp_path: Path) -> None:
    _with_texts(tmp_path / "a", 4)
    (tmp_path / "a" / f"{0:09}.txt").write_text(" ")
    for k in (1, 2):
        (tmp_path / "a" / f"{k:09}.json").unlink()
    (tmp_path / "a" / f"{1:09}.txt").write_text("")
    (tmp_path / "a" / f"{2:09}.txt").unlink()
    source = _open(tmp_path)
    assert [source.all_captions(k) for k in (0, 3)] == [["field 0"], ["caption 3"]]
    for k, reason in ((1, "empty_caption"), (2, "no_caption")):
        with pytest.raises(BadImage, match=reason):
            source.all_captions(k)


def test_splits_and_fingerprint_of_pictures_with_texts(tmp_path: Path) -> None:
    _with_texts(tmp_path / "set" / "train", 3)
    _with_texts(tmp_path / "set" / "val", 1)
    assert [len(_open(tmp_path / "set", split=split)) for split in ("train", "validation")] == [3, 1]
    before = open_layout(Location(str(tmp_path / "set"))).fingerprint
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    assert open_layout(Location(str(tmp_path / "moved"))).fingerprint == before
    (tmp_path / "set" / "train" / f"{1:09}.txt").write_text("caption !")
    assert open_layout(Location(str(tmp_path / "set"))).fingerprint != before


TABLE = "\n".join(json.dumps({"file_name": f"{k}.png", "text": f"caption {k}"}) for k in range(3))


def _zip_file(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for k in range(3):
            archive.writestr(f"{k}.png", png(k))
    return folder / "data.zip"


def test_pictures_in_a_zip_file_with_their_table(tmp_path: Path) -> None:
    """The datasets library names them ``zip://<member>::<file>``."""
    with zipfile.ZipFile(_zip_file(tmp_path), "a") as archive:
        archive.writestr("metadata.jsonl", TABLE)
    for path in (tmp_path, tmp_path / "data.zip"):
        assert _pairs(_open(path)) == _expected(3)


def test_a_table_beside_the_zip_file_of_its_pictures_is_refused(tmp_path: Path) -> None:
    _zip_file(tmp_path)
    (tmp_path / "metadata.jsonl").write_text(TABLE)
    with pytest.raises(
        ValueError, match=r"metadata.jsonl is beside data.zip, which holds the pictures; unpack it there"
    ):
        _open(tmp_path)


@pytest.mark.parametrize("opened", ["", "train"])
def test_paths_that_name_their_own_folder_once_more(tmp_path: Path, opened: str) -> None:
    (tmp_path / "train").mkdir()
    for k in range(3):
        picture(k).save(tmp_path / "train" / f"{k}.png")
    lines = [json.dumps({"file_name": f"train/{k}.png", "text": f"caption {k}"}) for k in range(3)]
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(lines))
    assert _pairs(_open(tmp_path / opened)) == _expected(3)


def test_texts_in_a_zip_file_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    _with_texts(tmp_path / "a", 2)
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w") as archive:
        for file in sorted((tmp_path / "a").iterdir()):
            archive.write(file, file.name)
    with pytest.raises(ValueError, match=r"pairs.zip holds texts beside its pictures, .*: unpack it"):
        _open(tmp_path / "pairs.zip")
    (tmp_path / "half.zip").write_bytes((tmp_path / "pairs.zip").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"half.zip is damaged, or no zip file \(.*\); fetch it again"):
        _open(tmp_path / "half.zip")


def test_a_text_whose_picture_is_missing_is_named(tmp_path: Path) -> None:
    _with_texts(tmp_path / "a", 3)
    (tmp_path / "a" / f"{1:09}.PNG").unlink()
    (tmp_path / "a" / "README.txt").write_text("about the set")
    source = _open(tmp_path)
    assert source.damaged == [("no_picture", f"a/{1:09}.txt")]
    assert len(source) == 2
