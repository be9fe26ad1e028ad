"""Whatever the layout, the same pictures and captions; the same order with any number of workers and ranks."""

import itertools
from collections import Counter, deque
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.hub import UnreachableData
from cliplab.data.layout import DataError
from cliplab.data.loader import Batch
from cliplab.data.opening import open_dataset
from cliplab.data.sources import caption_source

from .batches import data_module, epochs, same
from .conftest import LAYOUTS, ROWS, add_to_tar, captions, picture, png


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_batches(layout: str, layouts: dict[str, Path]) -> None:
    reference = epochs(caption_source(path=str(layouts["parquet_of_images"])), 2)
    assert len(reference) == 2 * ROWS // 4
    same(epochs(caption_source(path=str(layouts[layout])), 2), reference)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_are_the_pictures_with_all_their_captions(layout: str, layouts: dict[str, Path]) -> None:
    source = caption_source(path=str(layouts[layout]))
    data_module(source)
    for i in range(ROWS):
        assert source.all_captions(i) == captions(i)
        assert source.picture(i).tobytes() == picture(i).tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("workers", [0, 2])
def test_streams_give_each_row_once_an_epoch(layout: str, workers: int, layouts: dict[str, Path]) -> None:
    stream = caption_source(path=str(layouts[layout]), streaming=True, samples_per_epoch=ROWS, shuffle_buffer=5)
    batches = epochs(stream, 2, num_workers=workers, batch_size=3)
    for epoch in (batches[: ROWS // 3], batches[ROWS // 3 :]):
        seen = Counter(int(b.images[k, 0].float().mean()) for b in epoch for k in range(3))
        assert len(seen) == ROWS, "every picture has its own red"
    assert not torch.equal(batches[0].images, batches[ROWS // 3].images)


@pytest.mark.parametrize("parts", [1, 12])
@pytest.mark.parametrize("layout", ["parquet_of_images", "webdataset", "image_folder"])
def test_streams_do_not_depend_on_workers(layout: str, parts: int, layouts: dict[str, Path]) -> None:
    def batches(workers: int) -> list[Batch]:
        options = {"streaming": True, "samples_per_epoch": 2 * ROWS, "shuffle_buffer": 5, "parts": parts}
        return epochs(caption_source(path=str(layouts[layout]), **options), 2, num_workers=workers, batch_size=2)

    reference = batches(0)
    for workers in (1, 4):
        same(batches(workers), reference)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("streaming", [False, True])
def test_loader_goes_on_at_the_very_next_batch(streaming: bool, workers: int, layouts: dict[str, Path]) -> None:
    def loader() -> Any:
        options = {"streaming": True, "samples_per_epoch": ROWS, "shuffle_buffer": 5} if streaming else {}
        source = caption_source(path=str(layouts["parquet_of_images"]), **options)
        return data_module(source, batch_size=2, num_workers=workers).train_dataloader()

    whole = loader()
    reference = [batch for _ in range(2) for batch in whole]
    for stop in (1, 4, 6, 9):
        first = loader()
        taken = 0
        while taken < stop:
            for _ in first:
                taken += 1
                if taken == stop:
                    break
        state, second = first.state_dict(), loader()
        assert state == {"batches": stop}
        second.load_state_dict(state)
        remaining = list(second)
        remaining += list(second) if stop < 6 else []
        same(remaining, reference[stop:])


def test_order_does_not_depend_on_workers(layouts: dict[str, Path]) -> None:
    path = str(layouts["webdataset"])
    reference = epochs(caption_source(path=path), 2)
    for workers in (1, 4):
        same(epochs(caption_source(path=path), 2, num_workers=workers), reference)


def test_epochs_differ_in_order_caption_and_crop_but_not_by_run(layouts: dict[str, Path]) -> None:
    source = caption_source(path=str(layouts["arrow"]))
    data_module(source)
    first, second, again = source[(0, 3)], source[(1, 3)], source[(0, 3)]
    assert torch.equal(first.image, again.image)
    assert first.caption == again.caption
    assert not torch.equal(first.image, second.image)
    assert {source[(epoch, 3)].caption for epoch in range(20)} == set(captions(3))


def broken(tmp_path: Path, bad: dict[int, Any]) -> str:
    """Raw bytes, some of which are no picture."""
    from .conftest import png

    images = [bad.get(i, png(i)) for i in range(ROWS)]
    rows = {"jpg": images, "txt": [captions(i)[0] for i in range(ROWS)]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    return str(tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("streaming", [False, True])
def test_unusable_rows_are_replaced_and_counted(streaming: bool, workers: int, tmp_path: Path) -> None:
    path = broken(tmp_path, {2: b"<html>404</html>", 7: b"", 8: None})
    options = {"streaming": True, "samples_per_epoch": ROWS} if streaming else {}
    modules = data_module(caption_source(path=path, **options), num_workers=workers, max_bad_fraction=1.0)
    batches = list(modules.train_dataloader())
    assert [len(b.images) for b in batches] == [4, 4, 4]
    reasons = {"not_an_image": 1, "empty": 1, "missing": 1}  # row 8 is noted in its own turn, not also after row 7
    # Two workers share twelve rows unevenly in a stream: one may go round its own again.
    assert modules.counts.bad == reasons or (streaming and workers and set(modules.counts.bad) <= set(reasons))
    assert sorted(modules.counts.first_bad) == [
        f"train.parquet row {row}: {reason}" for row, reason in zip((2, 7, 8), reasons, strict=True)
    ]


def test_too_many_unusable_rows_stop_the_run(tmp_path: Path) -> None:
    path = broken(tmp_path, dict.fromkeys(range(3), b"no picture"))
    loader = data_module(caption_source(path=path), max_bad_fraction=0.2).train_dataloader()
    message = (
        r"3 of 12 rows are unusable \(not_an_image\).*by data.max_bad_fraction=0.\d+\. The first: train.parquet row 0"
    )
    with pytest.raises(DataError, match=message):
        deque(itertools.chain.from_iterable(itertools.repeat(loader, 20)), maxlen=0)


def test_nothing_but_unusable_rows(tmp_path: Path) -> None:
    path = broken(tmp_path, dict.fromkeys(range(ROWS), b"no picture"))
    with pytest.raises(
        DataError, match=r"train.parquet row \d+ is unusable \(not_an_image\), and so are 100 rows drawn at random"
    ):
        epochs(caption_source(path=path))
    stream = caption_source(path=path, streaming=True, samples_per_epoch=ROWS)
    with pytest.raises(DataError, match=r"is unusable \(not_an_image\), and so are 108 rows drawn at random"):
        epochs(stream)


def test_tars_with_labels_in_place_of_captions(tmp_path: Path) -> None:
    for i in range(ROWS):
        add_to_tar(tmp_path / "0.tar", f"{i:05d}", {"png": png(i), "cls": b"3"})
    with pytest.raises(
        DataError, match=r"\(no_caption\).*caption_names=\[…\]; images with labels alone .* zeroshot=folder"
    ):
        epochs(caption_source(path=str(tmp_path)))


def test_cut_captions_are_counted(tmp_path: Path) -> None:
    rows = {"image": [picture(i) for i in range(4)], "text": ["word " * (20 * i + 5) for i in range(4)]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    modules = data_module(caption_source(path=str(tmp_path)), num_workers=1)
    list(modules.train_dataloader())
    assert modules.counts.truncated == 2 + (20 * 1 + 5 > 30)


def test_errors_say_what_was_found_and_what_to_do(tmp_path: Path, layouts: dict[str, Path]) -> None:
    datasets.Dataset.from_dict({"url": ["http://x"], "text": ["y"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"no image column among url, text.*img2dataset"):
        caption_source(path=str(tmp_path))
    with pytest.raises(ValueError, match=r"no caption column among image, captions; looked for title"):
        caption_source(path=str(layouts["parquet_of_images"]), caption_columns=["title"])
    with pytest.raises(UnreachableData, match=r"data set '/nowhere' \(split 'train'\) cannot be opened"):
        open_dataset(path="/nowhere", split="train")
    with pytest.raises(ValueError, match=r"data.path is not set"):
        caption_source()
    with pytest.raises(
        ValueError, match=r"a stream has no length: .*data.samples_per_epoch=.*trainer.max_steps=<steps>"
    ):
        data_module(caption_source(path=str(layouts["webdataset"]), streaming=True), max_steps=-1)
    with pytest.raises(ValueError, match=r"set data.streaming=false"):
        caption_source(path=str(layouts["webdataset"]), streaming=True, samples_per_epoch=4, cache_images=True)
    with pytest.raises(ValueError, match=r"data.batch_size: 16 exceeds the 12 training samples"):
        epochs(caption_source(path=str(layouts["arrow"])), batch_size=16)
    with pytest.raises(ValueError, match=r"^data: there is one training sample.*give more pairs"):
        epochs(caption_source(path=str(layouts["arrow"]), limit=1), batch_size=16)
    with pytest.raises(UnreachableData, match="split 'test'"):
        open_dataset(path="someone/unknown", split="test")


def test_limit_keeps_the_first_rows(layouts: dict[str, Path]) -> None:
    source = caption_source(path=str(layouts["arrow"]), limit=5)
    assert len(source) == 5
    assert source.picture(4).tobytes() == picture(4).tobytes()


def test_a_stream_without_a_length_is_one_epoch_of_all_steps(layouts: dict[str, Path]) -> None:
    def stream(**options: Any) -> CaptionDataModule:
        return data_module(caption_source(path=str(layouts["webdataset"]), streaming=True), batch_size=2, **options)

    modules = stream(max_steps=9)
    assert modules.steps_per_epoch == 9
    batches = list(modules.train_dataloader())
    assert len(batches) == 9
    longer = stream(max_steps=20)
    longer.load_state_dict(modules.state_dict())
    same(list(longer.train_dataloader())[:9], batches)


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("the library would try for minutes"))
    with pytest.raises(UnreachableData) as caught:
        caption_source(path="owner/name")
    message = str(caught.value)
    assert message.startswith(
        "data set 'owner/name' (split 'train') cannot be opened: ConnectionError: http://127.0.0.1:9 cannot"
    )
    assert "name a local copy with data.path=<folder or file>" in message
