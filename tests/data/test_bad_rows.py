"""Unusable rows: who stands in for them, when there are too many, and how each is found again."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from cliplab.data.captions import CaptionDataset
from cliplab.data.counts import Counts, surely_above
from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.images import BadImage
from cliplab.data.layout import DataError, Part, Row
from cliplab.data.opening import Location
from cliplab.data.source import Sample
from cliplab.data.sources import caption_source
from cliplab.data.stream import CaptionStream, StreamSettings
from cliplab.data.stream_rows import StreamRow
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform

from .conftest import png
from .tars import pairs, write_tar

SOUND = png(3)


def written(folder: Path, rows: int, bad: Any, group: int = 100) -> str:
    """Parquet whose pictures are sound but for the rows in ``bad``; captions are their numbers."""
    held = set(bad)
    columns = {"jpg": [b"<html>" if i in held else SOUND for i in range(rows)], "txt": [str(i) for i in range(rows)]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "train.parquet", row_group_size=group)
    return str(folder)


class Texts:
    """A tokenizer that remembers what it was given."""

    truncated = 0

    def __init__(self) -> None:
        self.given: list[str] = []
        self.tokenizer = CLIPTokenizer(8)

    def __call__(self, texts: list[str]) -> Any:
        self.given += texts
        return self.tokenizer(texts)


def read(source: Any, epochs: int = 1, **options: Any) -> tuple[CaptionDataModule, list[str]]:
    """The captions of the samples, in order."""
    settings: dict[str, Any] = {"batch_size": 10, "seed": 1, "max_bad_fraction": 0.05, **options}
    whole, texts = EvalTransform(4), Texts()
    module = CaptionDataModule(
        train=source,
        validation=None,
        train_transform=lambda pixels, rng: whole(Image.fromarray(pixels)),
        eval_transform=whole,
        tokenizer=texts,
        **settings,
    )
    loader = module.train_dataloader()
    for _ in range(epochs):
        for _ in loader:
            pass
        module.check_counts(module.all_counts())
    return module, texts.given


def streamed(path: str, rows: int, **options: Any) -> Any:
    return caption_source(path=path, streaming=True, samples_per_epoch=rows, **options)


@pytest.mark.parametrize("streaming", [False, True])
def test_no_neighbour_stands_in_for_a_block(streaming: bool, tmp_path: Path) -> None:
    path = written(tmp_path, 600, range(100, 150))
    source = streamed(path, 600, parts=1, shuffle_buffer=1) if streaming else caption_source(path=path)
    module, texts = read(source, max_bad_fraction=0.1)
    assert module.counts.bad == {"not_an_image": 50}
    assert len(texts) == 600
    often = Counter(texts).most_common(1)[0][1]
    assert often <= 4, "fifty samples are drawn from 550 rows"
    again = streamed(path, 600, parts=1, shuffle_buffer=1) if streaming else caption_source(path=path)
    assert read(again, max_bad_fraction=0.1)[1] == texts


@pytest.mark.parametrize("streaming", [False, True])
def test_a_stand_in_is_the_same_after_a_stop_and_with_workers(streaming: bool, tmp_path: Path) -> None:
    path = written(tmp_path, 60, range(10, 20), group=15)

    def module(workers: int = 0) -> CaptionDataModule:
        source = streamed(path, 60, parts=2, shuffle_buffer=8) if streaming else caption_source(path=path)
        whole = EvalTransform(4)
        return CaptionDataModule(
            train=source,
            validation=None,
            train_transform=lambda pixels, rng: whole(Image.fromarray(pixels)),
            eval_transform=whole,
            tokenizer=CLIPTokenizer(8),
            batch_size=6,
            seed=4,
            num_workers=workers,
            max_bad_fraction=1.0,
        )

    whole = [batch.tokens.ids.tolist() for batch in module().train_dataloader()]
    assert [batch.tokens.ids.tolist() for batch in module(workers=2).train_dataloader()] == whole
    resumed = module().train_dataloader()
    resumed.load_state_dict({"batches": 4})
    assert [batch.tokens.ids.tolist() for batch in resumed] == whole[4:]


@pytest.mark.parametrize("arranged", ["in a row", "anywhere"])
@pytest.mark.parametrize("streaming", [False, True])
def test_below_the_limit_no_arrangement_stops_a_run(streaming: bool, arranged: str, tmp_path: Path) -> None:
    rows = 1200
    bad = range(400, 448) if arranged == "in a row" else np.random.default_rng(0).permutation(rows)[:48]
    path = written(tmp_path, rows, [int(i) for i in bad])
    source = streamed(path, rows, shuffle_buffer=24) if streaming else caption_source(path=path)
    module, _ = read(source)
    assert len(module.counts.bad_rows) == 48, "four per cent"


class Numbers:
    """Rows without pictures, of which those in ``bad`` cannot be read: many of them cost little."""

    columns = ("image", "caption")
    fingerprint = "numbers"

    def __init__(self, rows: int, bad: range, group: int = 500) -> None:
        self.bad, self.group = bad, group
        self.parts = [Part(f"group {k}", group) for k in range(rows // group)]

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        for number in range(part * self.group + start, (part + 1) * self.group):
            yield Row({"image": number in self.bad, "caption": str(number)}, f"row {number}")


@pytest.mark.parametrize(("first", "count", "stops"), [(0, 1000, False), (12_300, 1000, False), (12_300, 1300, True)])
def test_a_thousand_bad_rows_in_a_row_of_25_000(first: int, count: int, stops: bool) -> None:
    """Four per cent under a limit of five stop no run, wherever they stand; 1,300 do."""
    layout: Any = Numbers(25_000, range(first, first + count))
    stream = CaptionStream(layout, Location(path="numbers"), StreamSettings(samples_per_epoch=25_000, parts=10))
    counts, seen = Counts(), set[str]()

    def sample(row: StreamRow, number: int, rng: Any) -> Sample:
        if row.row.values["image"]:
            raise BadImage("broken")
        return Sample(torch.empty(0), row.row.values["caption"], 0, number, number)

    def epoch() -> None:
        stream.begin(epoch=0, batches=range(250), batch_size=100)
        samples = iter(stream)
        for _ in range(250):
            batch = [next(samples) for _ in range(100)]
            counts.add(_counted(batch))
            seen.update(one.caption for one in batch)
            counts.check(0.05, stream.row_count)
        counts.check(0.05, stream.row_count, whole_epoch=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "sample", sample)
        if stops:
            with pytest.raises(DataError, match=r"12\d\d of 25000 rows are unusable .*data.max_bad_fraction=0.05"):
                epoch()
            return
        epoch()
    assert (len(counts.bad_rows), counts.bad["broken"], len(seen)) == (1000, 1000, 24_000)


def _counted(samples: list[Sample]) -> Any:
    bad, probes = [one.bad for one in samples if one.bad], [one for one in samples if one.probe]
    return SimpleNamespace(
        bad=bad,
        truncated=0,
        sources=[],
        images=samples,
        probes=len(probes),
        bad_probes=sum(one.bad is not None for one in probes),
        lost=[],
    )


@pytest.mark.parametrize(("broken", "stops"), [(1, False), (4, True)])
def test_a_broken_tar_in_a_stream_weighs_what_it_held(broken: int, stops: bool, tmp_path: Path) -> None:
    """One of twenty is no more than the limit of five per cent; four are, though each is met as a single row."""
    for k in range(20):
        write_tar(tmp_path / f"{k:02}.tar", pairs(10))
    for k in range(broken):
        (tmp_path / f"{3 * k:02}.tar").write_bytes(b"<html>")
    rows = 10 * (20 - broken) + broken
    source = streamed(str(tmp_path), rows // 10 * 10, parts=1, shuffle_buffer=16)
    if stops:
        with pytest.raises(DataError, match=r"40 of 1\d\d rows are unusable \(not_a_tar\).*_fraction=0.\d\d\."):
            read(source)
        return
    module, texts = read(source)
    assert module.counts.bad == {"not_a_tar": 10}
    assert (module.counts.seen, module.counts.lost, len(texts)) == (190, 9, 190)
    assert "1 unusable rows replaced, 9 lost with damaged files (10 not_a_tar)" in str(module.counts)
    assert Counts(**module.counts.as_dict()).as_dict() == module.counts.as_dict()
    assert Counts.total([module.counts.as_dict()] * 2).lost == 18


@pytest.mark.parametrize("streaming", [False, True])
def test_above_the_limit_a_run_stops(streaming: bool, tmp_path: Path) -> None:
    path = written(tmp_path, 2000, range(0, 2000, 4))
    source = streamed(path, 2000) if streaming else caption_source(path=path)
    message = r"\d+ of \d+ rows are unusable \(not_an_image\).*The first: train.parquet row \d+: not_an_image; train"
    with pytest.raises(DataError, match=message) as raised:
        read(source)
    assert int(str(raised.value).split()[2]) <= 2000


@pytest.mark.parametrize(
    ("share", "limit", "stops"), [(0.04, 0.05, 0), (0.05, 0.05, 0), (0.3, 0.05, 100), (0.1, 0.05, 100)]
)
def test_the_limit_allows_for_chance(share: float, limit: float, stops: int) -> None:
    """Looked at again and again in 3,000 rows, for each of a hundred orders of them."""
    rng, rows, seen = np.random.default_rng(0), np.arange(3000) < round(share * 3000), range(50, 3001, 50)

    def stopped() -> bool:
        bad = np.cumsum(rng.permutation(rows))
        return any(surely_above(int(bad[n - 1]), n, limit) for n in seen)

    assert sum(stopped() for _ in range(100)) == stops


def test_clear_cases_of_the_limit() -> None:
    assert surely_above(1, 100, 0.0)
    assert not surely_above(100, 100, 1.0)
    assert not surely_above(2, 16, 0.05)
    assert surely_above(10, 10, 0.05)
    assert not surely_above(5, 100, 0.05)


def test_a_row_counts_once_however_often_it_comes(tmp_path: Path) -> None:
    path = written(tmp_path, 20, [7], group=5)
    for source in (caption_source(path=path), streamed(path, 20, parts=1)):
        module, _ = read(source, epochs=4)
        assert module.counts.bad == {"not_an_image": 4}
        assert module.counts.first_bad == ["train.parquet row 7: not_an_image"]
        assert Counts(**module.counts.as_dict()).as_dict() == module.counts.as_dict()
        total = Counts.total([module.counts.as_dict()] * 2)
        assert (len(total.bad_rows), total.first_bad) == (1, module.counts.first_bad)


def test_a_fault_of_every_first_row_is_no_fault_of_all(tmp_path: Path) -> None:
    module, _ = read(streamed(written(tmp_path, 1200, range(0, 1200, 50), group=50), 1200))
    assert module.counts.bad["not_an_image"] == 24


def test_what_is_saved_in_place_of_a_cached_picture(tmp_path: Path) -> None:
    source = caption_source(path=written(tmp_path, 30, [3, 4]), cache_images=True)
    assert isinstance(source, CaptionDataset)
    read(source, max_bad_fraction=1.0)
    sample = source[(0, 3)]
    assert sample.bad == ("not_an_image", "train.parquet row 3")
    assert sample.index not in (3, 4), "it says whose picture it shows"
    assert sample.group == sample.index
