"""Which files of a place are read, by name, by pattern and by split; what of it goes to the hub; files that are damaged."""

from pathlib import Path
from typing import Any

import pytest

from cliplab.data import opening
from cliplab.data.captions import CaptionDataset
from cliplab.data.hub import UnreachableData
from cliplab.data.opening import Location, open_dataset, open_layout, open_rows
from cliplab.data.sources import caption_source

from .conftest import ROWS, captions

BY_SPLIT = {"train": ["train-1.parquet", "train-3.parquet"], "test": "train-0.parquet"}


def found(source: CaptionDataset) -> list[int]:
    """Which of the twelve pairs a source holds, by their captions."""
    rows = source.rows.captions
    return [next(k for k in range(ROWS) if captions(k) == rows(source.row(i).values)) for i in range(len(source))]


@pytest.mark.parametrize(
    ("split", "data_files", "expected"),
    [
        ("train", "train-1.parquet", [3, 4, 5]),  # of twelve rows three are in each of four files
        ("train", ["train-2.parquet", "train-0.parquet"], [0, 1, 2, 6, 7, 8]),
        ("train", "train-[23].parquet", [6, 7, 8, 9, 10, 11]),
        ("train", {"train": ["train-3.parquet"]}, [9, 10, 11]),
        ("train", BY_SPLIT, [3, 4, 5, 9, 10, 11]),
        ("test", BY_SPLIT, [0, 1, 2]),
        (["test", "train"], BY_SPLIT, [0, 1, 2, 3, 4, 5, 9, 10, 11]),
    ],
)
def test_just_the_files_that_are_named(
    split: Any, data_files: Any, expected: list[int], layouts: dict[str, Path]
) -> None:
    path = str(layouts["parquet_of_images"])
    assert found(caption_source(path=path, split=split, data_files=data_files)) == expected
    if isinstance(split, str):
        streamed = caption_source(path=path, split=split, data_files=data_files, streaming=True, samples_per_epoch=4)
        held = [row.values["captions"] for row in streamed.raw_rows()]
        assert held == [captions(i) for i in expected]


def test_tars_and_files_of_other_places(layouts: dict[str, Path]) -> None:
    tars = str(layouts["webdataset"])
    assert found(caption_source(path=tars, data_files="*-1.tar")) == [6, 7, 8, 9, 10, 11]
    assert found(caption_source(path="/", data_files=f"{tars}/train-0.tar")) == [0, 1, 2, 3, 4, 5]


def test_the_fingerprint_is_of_the_named_files(layouts: dict[str, Path]) -> None:
    def of(data_files: Any) -> str:
        return open_layout(Location(str(layouts["parquet_of_images"]), data_files=data_files)).fingerprint

    assert of("train-[13].parquet") == of(BY_SPLIT) != of(None)
    assert of(None) == of("*.parquet")


@pytest.mark.parametrize("streaming", [False, True])
def test_files_that_are_not_there(streaming: bool, layouts: dict[str, Path]) -> None:
    for data_files, message in (
        ("shard-*.parquet", r"data_files: no file matches 'shard-\*.parquet'"),
        (["train-0.parquet", "train-9.parquet"], r"data_files: no file matches 'train-9.parquet'"),
        ([], "data_files: no file is named; null means all"),
        ({"test": "*"}, "data_files are given for test; name split train there, or split=…"),
    ):
        with pytest.raises(UnreachableData, match=message):
            (open_layout if streaming else open_rows)(
                Location(str(layouts["parquet_of_images"]), data_files=data_files)
            )


def test_files_name_and_revision_reach_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def loader(path: str, **options: Any) -> str:
        calls.append((path, options))
        return "opened"

    monkeypatch.setattr(opening.datasets, "load_dataset", loader)
    monkeypatch.setattr(opening, "without_decoding", lambda dataset: dataset)
    monkeypatch.setattr(opening, "reach_hub", lambda path: None)
    monkeypatch.setattr(opening, "hub_tars", lambda path, split, arguments: None)
    place = {"path": "owner/name", "split": "val", "name": "small", "revision": "v1.2"}
    for data_files in (None, "a-*.tar", ("a.tar", "b.tar"), {"val": ("b.tar",), "train": "a.tar"}):
        assert open_dataset(**place, data_files=data_files) == "opened"
    shared = {"name": "small", "revision": "v1.2", "split": "val", "streaming": False}
    assert calls == [
        ("owner/name", shared),
        ("owner/name", {**shared, "data_files": "a-*.tar"}),
        ("owner/name", {**shared, "data_files": ["a.tar", "b.tar"]}),
        ("owner/name", {**shared, "data_files": {"val": ["b.tar"], "train": "a.tar"}}),
    ]
