"""Unusable rows: who stands in for them, when there are too many, and how each is found again."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from cliplab.data.captions import CaptionDataset
from cliplab.data.counts import Counts, surely_above
from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.sources import caption_source
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform

from .conftest import png

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
    later = module().train_dataloader()
    later.load_state_dict({"batches": 4})
    assert [batch.tokens.ids.tolist() for batch in later] == whole[4:]


@pytest.mark.parametrize("arranged", ["in a row", "anywhere"])
@pytest.mark.parametrize("streaming", [False, True])
def test_below_the_limit_no_arrangement_stops_a_run(streaming: bool, arranged: str, tmp_path: Path) -> None:
    rows = 1200
    bad = range(400, 448) if arranged == "in a row" else np.random.default_rng(0).permutation(rows)[:48]
    path = written(tmp_path, rows, [int(i) for i in bad])
    source = streamed(path, rows, shuffle_buffer=24) if streaming else caption_source(path=path)
    module, _ = read(source)
    assert len(module.counts.bad_rows) == 48, "four per cent"


@pytest.mark.parametrize("streaming", [False, True])
def test_above_the_limit_a_run_stops(streaming: bool, tmp_path: Path) -> None:
    path = written(tmp_path, 2000, range(0, 2000, 4))
    source = streamed(path, 2000) if streaming else caption_source(path=path)
    message = r"\d+ of \d+ rows are unusable, .*The first: train.parquet row \d+: not_an_image; train.parquet row"
    with pytest.raises(RuntimeError, match=message) as raised:
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
