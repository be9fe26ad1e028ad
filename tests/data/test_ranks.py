"""Sources read by several ranks: the same global batches, and counts that are kept when the number of ranks changes."""

from pathlib import Path

import pytest
import torch

from cliplab.data import datamodule as datamodule_module
from cliplab.data import loader as module
from cliplab.data import stream as stream_module
from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.loader import Batch
from cliplab.data.sources import caption_source

from .batches import data_module, epochs
from .conftest import ROWS


def test_streams_of_given_lanes_do_not_depend_on_ranks(
    layouts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches() -> list[Batch]:
        options = {"streaming": True, "samples_per_epoch": ROWS, "shuffle_buffer": 6, "lanes": 2}
        return epochs(caption_source(path=str(layouts["parquet_of_images"]), **options), 2, batch_size=4)

    whole, ranks = batches(), []
    for number in range(4):
        for place in (module, stream_module):
            monkeypatch.setattr(place, "world_size", lambda: 4)
            monkeypatch.setattr(place, "rank", lambda n=number: n)
        ranks.append(batches())
    for joint, *shares in zip(whole, *ranks, strict=True):
        assert torch.equal(joint.images, torch.cat([share.images for share in shares]))
        assert torch.equal(joint.indices, torch.cat([share.indices for share in shares]))


def test_a_stream_keeps_its_lanes_and_all_keep_their_counts_when_ranks_change(
    layouts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream() -> CaptionDataModule:
        options = {"streaming": True, "samples_per_epoch": ROWS, "shuffle_buffer": 6}
        return data_module(caption_source(path=str(layouts["parquet_of_images"]), **options))

    def ranks(number: int, count: int) -> None:
        for place in (module, stream_module, datamodule_module):
            monkeypatch.setattr(place, "world_size", lambda: count)
            monkeypatch.setattr(place, "rank", lambda: number)

    parts, states = [], []
    for number in range(2):
        ranks(number, 2)
        modules = stream()
        parts.append(list(modules.train_dataloader()))
        states.append(modules.state_dict())
    ranks(0, 1)
    one = stream()
    one.load_state_dict({**states[0], "counts": [state["counts"][0] for state in states]})
    assert one.counts.seen == ROWS
    for joint, *shares in zip(one.train_dataloader(), *parts, strict=True):
        assert torch.equal(joint.images, torch.cat([share.images for share in shares]))


@pytest.mark.parametrize("layout", ["image_folder", "webdataset"])
def test_ranks_share_fewer_shards_than_there_are_ranks(
    layout: str, layouts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    for number in range(3):
        for place in (module, stream_module):
            monkeypatch.setattr(place, "world_size", lambda: 3)
            monkeypatch.setattr(place, "rank", lambda n=number: n)
        stream = caption_source(path=str(layouts[layout]), streaming=True, samples_per_epoch=ROWS)
        seen += [int(b.images[0, 0].float().mean()) for b in epochs(stream, batch_size=3)]
    assert len(set(seen)) == ROWS


def test_each_sample_once_an_epoch_and_the_global_batch_whatever_the_ranks(
    layouts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = caption_source(path=str(layouts["arrow"]))
    whole = epochs(source)
    assert sorted(int(i) for batch in whole for i in batch.indices) == list(range(ROWS))
    parts = []
    for number in range(2):
        monkeypatch.setattr(module, "world_size", lambda: 2)
        monkeypatch.setattr(module, "rank", lambda n=number: n)
        parts.append(epochs(source))
    for joint, a, b in zip(whole, *parts, strict=True):
        assert torch.equal(joint.images, torch.cat([a.images, b.images]))
        assert torch.equal(joint.indices, torch.cat([a.indices, b.indices]))
