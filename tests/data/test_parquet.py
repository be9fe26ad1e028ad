"""Parquet as a stream: every row group a shard, little read at a time."""

from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from cliplab.data.hub import UnreachableData
from cliplab.data.opening import Location, open_layout, open_rows
from cliplab.data.sources import caption_source

from .batches import data_module
from .conftest import png


def write(folder: Path, rows: int = 24, group: int = 2) -> Path:
    noise = [bytes([i]) * 100_000 for i in range(rows)]
    table = pyarrow.table({"jpg": [png(i % 12) for i in range(rows)], "txt": [f"row {i}" for i in range(rows)]})
    table = table.append_column("noise", pyarrow.array(noise, pyarrow.binary()))
    options = {"row_group_size": group, "compression": "none", "use_dictionary": False}
    pyarrow.parquet.write_table(table, folder / "train-0.parquet", **options)
    return folder


def test_every_row_group_is_a_part_whose_rows_can_be_found(tmp_path: Path) -> None:
    layout = open_layout(Location(str(write(tmp_path))))
    assert [part.rows for part in layout.parts] == [2] * 12
    rows = [row for part in range(12) for row in layout.rows(part)]
    assert [row.values["txt"] for row in rows] == [f"row {i}" for i in range(24)]
    assert [row.place for row in rows] == [f"train-0.parquet row {i}" for i in range(24)]
    assert [row.place for row in layout.rows(5, start=1)] == ["train-0.parquet row 11"]


def test_no_more_than_a_row_group_is_kept(tmp_path: Path) -> None:
    layout = open_layout(Location(str(write(tmp_path))))
    before = pyarrow.total_allocated_bytes()
    rows = layout.rows(0)
    next(rows)
    assert pyarrow.total_allocated_bytes() - before < 400_000, "of 2,400,000"


def test_columns_that_differ_and_broken_files_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"jpg": [b""], "text": ["x"]}), tmp_path / "train-1.parquet")
    with pytest.raises(UnreachableData, match=r"train-1.parquet has the columns \['jpg', 'text'\], but"):
        caption_source(path=str(tmp_path), streaming=True, samples_per_epoch=4)
    (tmp_path / "train-1.parquet").write_bytes(b"not Parquet at all")
    with pytest.raises(UnreachableData, match=r"train-1.parquet is not a complete Parquet file"):
        caption_source(path=str(tmp_path), streaming=True, samples_per_epoch=4)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([[5, 6], ["a", None]], ["5", "6", "a", None]),
        ([["a"], [5]], ["a", "5"]),
        ([[None], ["a"]], [None, "a"]),
        ([["a"], [None]], ["a", None]),
        ([[5], [6]], ["5", "6"]),
        ([[["a", "b"]], ["c"], [7]], [["a", "b"], ["c"], ["7"]]),
        ([pyarrow.array(["a"], pyarrow.large_string()), ["b"]], ["a", "b"]),
        ([pyarrow.array(["a"]).dictionary_encode(), ["b"]], ["a", "b"]),
        ([[], ["a"], []], ["a"]),
    ],
)
def test_files_whose_types_differ_or_that_have_no_rows(
    columns: list, expected: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path / "cache"))
    for k, captions in enumerate(columns):
        pictures = pyarrow.array([png(1)] * len(captions), pyarrow.null() if not len(captions) else pyarrow.binary())
        table = pyarrow.table({"image": pictures, "caption": captions})
        pyarrow.parquet.write_table(table, tmp_path / f"train-{k}.parquet")
    location = Location(str(tmp_path))
    assert open_rows(location).dataset["caption"][:] == expected
    layout = open_layout(location)
    rows = [row for part in range(len(layout.parts)) for row in layout.rows(part)]
    assert [row.values["caption"] for row in rows] == expected
    assert [open_rows(location).place(k) for k in range(len(rows))] == [row.place for row in rows]


def test_pictures_as_bytes_as_structures_and_as_paths(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(3))
    structure = [{"bytes": png(2), "path": "2.png"}]
    for k, pictures in enumerate(([png(1)], structure, ["x.png"])):
        pyarrow.parquet.write_table(pyarrow.table({"image": pictures, "caption": ["a"]}), tmp_path / f"{k}.parquet")
    found = open_rows(Location(str(tmp_path))).dataset["image"][:]
    assert [one["bytes"] for one in found] == [png(1), png(2), None]


def test_types_that_do_not_go_together_are_told(tmp_path: Path) -> None:
    for k, sizes in enumerate(([1], [{"width": 1}])):
        table = pyarrow.table({"image": [png(1)], "caption": ["a"], "size": sizes})
        pyarrow.parquet.write_table(table, tmp_path / f"{k}.parquet")
    message = r"1.parquet: column 'size' is struct<width: int64>, but in .*0.parquet it is int64; .*data_files="
    with pytest.raises(UnreachableData, match=message):
        open_rows(Location(str(tmp_path)))


def test_columns_may_be_in_other_capitals_and_another_order_in_each_file(tmp_path: Path) -> None:
    first = pyarrow.table({"image": [png(0), png(1)], "caption": ["a", "b"]})
    other = pyarrow.table({"Caption": ["c", "d"], "IMAGE": [png(2), png(3)]})
    pyarrow.parquet.write_table(first, tmp_path / "train-0.parquet")
    pyarrow.parquet.write_table(other, tmp_path / "train-1.parquet")
    location = Location(str(tmp_path))
    layout = open_layout(location)
    streamed = [row.values for part in range(len(layout.parts)) for row in layout.rows(part)]
    assert [row["caption"] for row in streamed] == ["a", "b", "c", "d"]
    held = open_rows(location).dataset
    assert held["caption"][:] == ["a", "b", "c", "d"]
    assert len({str(row["image"]) for row in held}) == 4


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_list_of_one_picture_is_a_picture(streaming: bool, declared: bool, tmp_path: Path) -> None:
    cells = [{"bytes": png(i), "path": None} for i in range(12)]
    lists = [[cell] for cell in cells[:10]] + [[], cells[:2]]
    if declared:  # the library's own type in the file's metadata
        features = {"images": datasets.List(datasets.Image()), "text": datasets.Value("string")}
        rows = datasets.Dataset.from_dict({"images": lists, "text": ["a"] * 12}, datasets.Features(features))
        rows.to_parquet(str(tmp_path / "chat.parquet"))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"images": lists, "text": ["a"] * 12}), tmp_path / "chat.parquet")
    options = {"streaming": True, "samples_per_epoch": 12} if streaming else {}
    module = data_module(caption_source(path=str(tmp_path), **options), max_bad_fraction=1.0)
    assert [len(batch.images) for batch in module.train_dataloader()] == [4, 4, 4]
    assert module.counts.bad == {"missing": 1, "several_images": 1}
