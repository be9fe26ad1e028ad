"""Parquet as a stream: every row group a shard, little read at a time."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from cliplab.data.hub import UnreachableData, open_dataset
from cliplab.data.stream import CaptionStream

from .conftest import png


def write(folder: Path, rows: int = 24, group: int = 2) -> Path:
    noise = [bytes([i]) * 100_000 for i in range(rows)]
    table = pyarrow.table({"jpg": [png(i % 12) for i in range(rows)], "txt": [f"row {i}" for i in range(rows)]})
    table = table.append_column("noise", pyarrow.array(noise, pyarrow.binary()))
    options = {"row_group_size": group, "compression": "none", "use_dictionary": False}
    pyarrow.parquet.write_table(table, folder / "train-0.parquet", **options)
    return folder


def test_every_row_group_is_a_shard_and_can_be_dealt(tmp_path: Path) -> None:
    stream = open_dataset(path=str(write(tmp_path)), split="train", streaming=True)
    assert stream.num_shards == 12
    parts = [{row["txt"] for row in stream.shard(num_shards=5, index=i)} for i in range(5)]
    assert set.union(*parts) == {f"row {i}" for i in range(24)}
    assert sum(map(len, parts)) == 24
    options = {"buffer_size": 1, "max_buffer_input_shards": 1}  # else the library's threads decide the order
    orders = [[row["txt"] for row in stream.shuffle(seed=seed, **options)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(f"row {i}" for i in range(24))


def test_no_more_than_a_row_group_is_kept(tmp_path: Path) -> None:
    stream = open_dataset(path=str(write(tmp_path)), split="train", streaming=True)
    before = pyarrow.total_allocated_bytes()
    rows = iter(stream)
    next(rows)
    assert pyarrow.total_allocated_bytes() - before < 400_000, "of 2,400,000"


def test_columns_that_differ_and_broken_files_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"jpg": [b""], "text": ["x"]}), tmp_path / "train-1.parquet")
    with pytest.raises(UnreachableData, match=r"train-1.parquet has the columns \['jpg', 'text'\], but"):
        CaptionStream(path=str(tmp_path), samples_per_epoch=4)
    (tmp_path / "train-1.parquet").write_bytes(b"not Parquet at all")
    with pytest.raises(UnreachableData, match=r"train-1.parquet is no whole Parquet file"):
        CaptionStream(path=str(tmp_path), samples_per_epoch=4)
