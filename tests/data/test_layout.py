"""What every layout owes: its rows from anywhere, each with its place; and what a new one takes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from cliplab.data import layouts as layouts_module
from cliplab.data.layout import Part, Row
from cliplab.data.layouts import reader_of, readers
from cliplab.data.library import cache_key
from cliplab.data.opening import Location, open_layout, open_rows
from cliplab.data.sources import caption_source

from .conftest import LAYOUTS, ROWS, captions, png


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_begin_anywhere_and_say_where_they_stand(layout: str, layouts: dict[str, Path]) -> None:
    opened = open_layout(Location(str(layouts[layout])))
    places = []
    for part, facts in enumerate(opened.parts):
        whole = list(opened.rows(part))
        assert facts.rows in (None, len(whole))
        assert [row.place for row in opened.rows(part, start=1)] == [row.place for row in whole[1:]]
        assert not list(opened.rows(part, start=len(whole)))
        places += [row.place for row in whole]
    assert len(set(places)) == ROWS
    by_row = open_rows(Location(str(layouts[layout])))
    assert len({by_row.place(i) for i in range(ROWS)}) == ROWS
    if layout in ("parquet_of_images", "webdataset", "csv_of_paths"):
        assert sorted(by_row.place(i) for i in range(ROWS)) == sorted(places)


class NumberedPictures:
    """A made-up layout: a text file of numbers, each of them a pair."""

    suffixes = (".numbers",)
    precedence = 60
    columns = ("image", "caption")
    damaged: Sequence[tuple[str, str]] = ()
    fingerprint = "numbers"

    def __init__(self, files: Sequence[str], root: Path, **options: Any) -> None:
        self.numbers = [[int(line) for line in Path(file).read_text().split()] for file in files]
        self.parts = [Part(Path(file).name, len(some)) for file, some in zip(files, self.numbers, strict=True)]

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        for line, i in enumerate(self.numbers[part][start:], start + 1):
            yield Row({"image": png(i), "caption": captions(i)[0]}, f"{self.parts[part].name} line {line}")

    def dataset(self, split: str) -> datasets.Dataset:
        return datasets.Dataset.from_list(
            [dict(row.values) for part in range(len(self.parts)) for row in self.rows(part)]
        )

    def place(self, number: int) -> str:
        return [row.place for part in range(len(self.parts)) for row in self.rows(part)][number]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_reader_is_all_that_a_new_layout_takes(
    streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = readers()
    monkeypatch.setattr(layouts_module, "readers", lambda: [*known, NumberedPictures])
    (tmp_path / "a.numbers").write_text("3\n4\n")
    (tmp_path / "b.numbers").write_text("5\n")
    options = {"streaming": True, "samples_per_epoch": 3} if streaming else {}
    source = caption_source(path=str(tmp_path), **options)
    rows = list(source.raw_rows())
    assert [row.place for row in rows] == ["a.numbers line 1", "a.numbers line 2", "b.numbers line 1"]
    assert [source.rows.captions(row.values) for row in rows] == [captions(i)[:1] for i in (3, 4, 5)]


@pytest.mark.parametrize(
    ("name", "fits"), [("x.TAR", True), ("a.b.tar.gz", True), ("x.Parquet", True), ("x.csv", True), ("x.png", False)]
)
def test_readers_are_found_by_the_end_of_a_name(name: str, fits: bool) -> None:
    assert (reader_of(name) is not None) == fits


def test_the_library_still_keys_its_cache_by_content() -> None:
    one, same, other = (datasets.Dataset.from_dict({"a": values}) for values in ([1], [1], [2]))
    assert cache_key(one) == cache_key(same) != cache_key(other)
