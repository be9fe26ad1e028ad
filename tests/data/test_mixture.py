"""Several sources as one: exact shares, each sample in turn, reproducible, counted by source."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.filters import RowFilters
from cliplab.data.loader import Batch
from cliplab.data.mixture import CaptionMixture, StreamMixture, caption_mixture, quotas
from cliplab.data.sources import caption_source, own_mixture
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform, TrainTransform

from .conftest import ROWS

SHARES = {"a": 15, "b": 5, "c": 4}


def mixture(layouts: dict[str, Path], streaming: bool, **options: Any) -> CaptionDataModule:
    stream = {"streaming": True, "shuffle_buffer": 4, "parts": 2} if streaming else {}
    paths = {"a": "arrow", "b": "webdataset", "c": "parquet_of_images"}
    sources = {name: caption_source(path=str(layouts[layout]), **stream) for name, layout in paths.items()}
    joint = caption_mixture(sources=sources, weights=SHARES, samples_per_epoch=24)
    return CaptionDataModule(
        train=joint,
        validation=None,
        train_transform=TrainTransform(16),
        eval_transform=EvalTransform(16),
        tokenizer=CLIPTokenizer(32),
        batch_size=6,
        seed=5,
        **options,
    )


def epochs(module: CaptionDataModule, count: int) -> list[Batch]:
    loader = module.train_dataloader()
    return [batch for _ in range(count) for batch in loader]


def test_shares_by_largest_remainder() -> None:
    assert quotas({"a": 1, "b": 1, "c": 1}, 10) == {"a": 4, "b": 3, "c": 3}
    assert quotas({"a": 0, "b": 2.5}, 7) == {"a": 0, "b": 7}
    for weights in ({}, {"a": -1, "b": 2}, {"a": 0}):
        with pytest.raises(ValueError, match=r"data.train.weights .* must be 0 or more"):
            quotas(weights, 5)


def test_rows_come_in_exact_shares_each_in_its_turn(layouts: dict[str, Path]) -> None:
    module = mixture(layouts, streaming=False)
    batches = epochs(module, 4)
    assert module.counts.sources == {name: 4 * share for name, share in SHARES.items()}
    assert module.counts.metrics()["data/samples/b"] == 20
    keys = [(int(e), int(i)) for b in batches for e, i in zip(b.epochs, b.indices)]
    assert len(set(keys)) == len(keys), "no sample twice in one turn of its source"
    per_sample = Counter(index for _, index in keys)
    assert {per_sample[i] for i in range(ROWS)} == {5}  # 4 epochs of 15 from 12 rows
    assert {per_sample[i] for i in range(ROWS, 2 * ROWS)} == {1, 2}  # 20 from 12 rows
    assert {per_sample[i] for i in range(2 * ROWS, 3 * ROWS)} == {1, 2}  # 16 from 12 rows
    groups = {int(i): int(g) for b in batches for i, g in zip(b.indices, b.groups)}
    assert len(set(groups.values())) == 3 * ROWS, "sources share no group"


@pytest.mark.parametrize("streaming", [False, True])
def test_mixtures_do_not_depend_on_workers_and_go_on_anywhere(streaming: bool, layouts: dict[str, Path]) -> None:
    reference = epochs(mixture(layouts, streaming), 2)
    parallel = epochs(mixture(layouts, streaming, num_workers=2), 2)
    loader = mixture(layouts, streaming).train_dataloader()
    loader.load_state_dict({"batches": 5})
    for got, wanted in ((parallel, reference), (list(loader), reference[5:])):
        assert len(got) == len(wanted)
        for x, y in zip(got, wanted):
            assert torch.equal(x.images, y.images)
            assert torch.equal(x.tokens.ids, y.tokens.ids)
            assert x.sources == y.sources


def test_streams_come_in_shares(layouts: dict[str, Path]) -> None:
    module = mixture(layouts, streaming=True)
    part = module.train
    assert isinstance(part, StreamMixture)
    part.begin(epoch=0, batches=range(4), batch_size=6)
    rows = part.rows_in_turn(0, 2)
    seen = Counter(next(rows).source for _ in range(1000))
    assert seen == {0: 625, 1: 208, 2: 167}


def test_mixture_errors(layouts: dict[str, Path]) -> None:
    rows = caption_source(path=str(layouts["arrow"]))
    stream = caption_source(path=str(layouts["webdataset"]), streaming=True)
    with pytest.raises(ValueError, match=r"all streamed or all read by row; streamed are \['b'\], read by row \['a'\]"):
        caption_mixture(sources={"a": rows, "b": stream})
    with pytest.raises(ValueError, match=r"data.train.weights name \['x'\], data.train.sources \['a'\]"):
        caption_mixture(sources={"a": rows}, weights={"x": 1})
    whole = caption_mixture(sources={"a": rows, "b": rows})
    assert isinstance(whole, CaptionMixture)
    assert len(whole) == 2 * ROWS


def test_sources_by_path_alone_are_those_by_options(layouts: dict[str, Path]) -> None:
    path, web = str(layouts["parquet_of_images"]), str(layouts["webdataset"])
    options = {"path": web, "caption_columns": ["txt"], "filters": {"min_characters": 3}}
    joint = own_mixture(sources={"photos": path, "web": options}, weights={"photos": 2, "web": 1}, samples_per_epoch=9)
    assert joint.shares == {"photos": 6, "web": 3}
    filtered = caption_source(path=web, caption_columns=["txt"], filters=RowFilters(min_characters=3))
    plain = caption_mixture(
        sources={"photos": caption_source(path=path), "web": filtered},
        weights={"photos": 2, "web": 1},
        samples_per_epoch=9,
    )
    assert joint.fingerprint == plain.fingerprint


def test_a_wrong_source_of_ones_own_is_named(layouts: dict[str, Path]) -> None:
    path = str(layouts["parquet_of_images"])
    with pytest.raises(ValueError, match=r"data.train.sources.b.pth: no such option; there are path"):
        own_mixture(sources={"a": path, "b": {"pth": path}})
    with pytest.raises(ValueError, match=r"data.train.sources.b: .* no caption column"):
        own_mixture(sources={"a": path, "b": {"path": path, "caption_columns": ["title"]}})
