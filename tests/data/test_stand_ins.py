"""The error for a data set that cannot be opened names the file at fault, and what to do."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from cliplab.data.sources import caption_source

from .conftest import captions, picture

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.parquet", POINTER, r"train.parquet: it is a pointer of Git LFS .* git lfs pull"),
        ("train.parquet", "<!DOCTYPE html>", "train.parquet: it is a web page"),
        ("train.arrow", POINTER, "train.arrow: it is a pointer of Git LFS"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "a"}\n{oops\n', "metadata.jsonl: line 2 is not JSON"),
        ("pairs.record", "a.png\ta\n", r"pairs.record is not a folder, .*; known are .*\.csv"),
    ],
)
def test_the_file_at_fault_is_named(name: str, content: str, message: str, streaming: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    picture(0).save(tmp_path / "a.png")
    path = tmp_path / name if name.endswith("record") else tmp_path
    wanted = {"streaming": True, "samples_per_epoch": 4} if streaming else {}
    with pytest.raises(ValueError, match=message):
        caption_source(path=str(path), **wanted)


def test_a_table_without_rows_is_an_empty_split(tmp_path: Path) -> None:
    columns = {"image": pyarrow.array([], pyarrow.binary()), "caption": pyarrow.array([], pyarrow.string())}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"split 'train' is empty; its columns are image, caption"):
        caption_source(path=str(tmp_path))


@pytest.mark.parametrize("form", ["alone", "in a cell"])
def test_a_path_in_a_cell_begins_where_one_alone_does(form: str, tmp_path: Path) -> None:
    picture(3).save(tmp_path / "a.png")
    cell = "a.png" if form == "alone" else {"bytes": None, "path": "a.png"}
    pyarrow.parquet.write_table(pyarrow.table({"image": [cell], "text": captions(0)[:1]}), tmp_path / "train.parquet")
    source = caption_source(path=str(tmp_path))
    (row,) = source.raw_rows()
    assert source.rows.picture(row.values) == str(tmp_path / "a.png")
    assert source.rows.captions(row.values) == captions(0)[:1]
