"""Folders as people have them: img2dataset's, text in other encodings, JSON of any shape, several splits."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.filters import RowFilters
from cliplab.data.hub import UnreachableData
from cliplab.data.source import CaptionSource
from cliplab.data.sources import caption_source
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform, TrainTransform

from .conftest import add_to_tar, png

ROWS = 8


def fetched(folder: Path, texts: dict[int, bytes], facts: dict[int, bytes]) -> Path:
    """What img2dataset leaves behind: a tar, and a table and statistics about it."""
    for i in range(ROWS):
        about = facts.get(i, json.dumps({"width": 24, "LANGUAGE": "en" if i % 2 else "de", "score": i}).encode())
        parts = {"jpg": png(i), "txt": texts.get(i, f"number {i}".encode()), "json": about}
        add_to_tar(folder / "00000.tar", f"{i:09}", parts)
    columns = {"url": ["http://x"] * ROWS, "caption": ["y"] * ROWS, "key": [f"{i:09}" for i in range(ROWS)]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")
    return folder


def parquet(file: Path, numbers: Any, **options: Any) -> None:
    columns = {"image": [png(i) for i in numbers], "caption": [f"number {i}" for i in numbers]}
    pyarrow.parquet.write_table(pyarrow.table(columns), file, **options)


def source_of(folder: Path, streaming: bool, **options: Any) -> CaptionSource:
    samples = {"samples_per_epoch": ROWS} if streaming else {}
    return caption_source(path=str(folder), streaming=streaming, caption_choice="first", **samples, **options)


def captions_of(source: CaptionSource) -> list[str]:
    """Of one epoch, in order of their text."""
    transforms = {"train_transform": TrainTransform(16), "eval_transform": EvalTransform(16)}
    tokenizer = CLIPTokenizer(32)
    texts: list[str] = []
    module = CaptionDataModule(
        train=source,
        validation=None,
        tokenizer=lambda batch: (texts.extend(batch), tokenizer(batch))[1],
        batch_size=1,
        seed=1,
        **transforms,
    )
    module.tokenizer.truncated = 0
    assert sum(len(batch.images) for batch in module.train_dataloader()) == len(texts)
    assert not module.counts.bad
    return sorted(texts)


@pytest.mark.parametrize("streaming", [False, True])
def test_what_img2dataset_leaves_behind(streaming: bool, tmp_path: Path) -> None:
    folder = fetched(tmp_path, texts={6: b"caf\xe9 \xff"}, facts={5: b"{cut", 7: b'{"score": "high", "other": [1]}'})
    whole = captions_of(source_of(folder, streaming))
    assert whole == sorted([*(f"number {i}" for i in range(ROWS) if i != 6), "café ÿ"]), "it is Latin-1"
    filters = RowFilters(column_min={"json.score": 2}, languages=["en"], language_column="json.LANGUAGE", min_side=20)
    assert set(captions_of(source_of(folder, streaming, filters=filters))) == {"number 3"}


@pytest.mark.parametrize("streaming", [False, True])
def test_text_that_is_no_utf8(streaming: bool, tmp_path: Path) -> None:
    texts = pyarrow.array([b"caf\xe9", b"plain"])
    texts = pyarrow.Array.from_buffers(pyarrow.string(), 2, texts.buffers())
    lists = pyarrow.ListArray.from_arrays(pyarrow.array([0, 1, 2], pyarrow.int32()), texts)
    expected = ["caf\N{REPLACEMENT CHARACTER}", "plain"]
    for place, column in {"alone": texts, "in lists": lists}.items():
        (tmp_path / place).mkdir()
        table = pyarrow.table({"image": [png(1), png(2)], "caption": column})
        pyarrow.parquet.write_table(table, tmp_path / place / "train.parquet")
        source = source_of(tmp_path / place, streaming, filters=RowFilters(max_characters=9))
        assert sorted(set(captions_of(source))) == expected
    (tmp_path / "table").mkdir()
    for i in (1, 2):
        (tmp_path / "table" / f"{i}.png").write_bytes(png(i))
    (tmp_path / "table" / "pairs.csv").write_bytes(b"image,caption\n1.png,caf\xe9\n2.png,plain\n")
    assert sorted(set(captions_of(source_of(tmp_path / "table", streaming)))) == ["café", "plain"], "it is Latin-1"


@pytest.mark.parametrize("streaming", [False, True])
def test_several_splits_are_one(streaming: bool, tmp_path: Path) -> None:
    parquet(tmp_path / "train-0.parquet", range(3))
    parquet(tmp_path / "restval-0.parquet", range(3, 5))
    parquet(tmp_path / "validation-0.parquet", range(5, 8))
    assert set(captions_of(source_of(tmp_path, streaming))) == {"number 0", "number 1", "number 2"}
    joint = source_of(tmp_path, streaming, split=["train", "restval"], **({"parts": 1} if streaming else {}))
    assert set(captions_of(joint)) == {f"number {i}" for i in range(5)}
    assert joint.fingerprint != source_of(tmp_path, streaming).fingerprint


@pytest.mark.parametrize("streaming", [False, True])
def test_splits_that_share_a_file_would_count_its_rows_twice(streaming: bool, tmp_path: Path) -> None:
    parquet(tmp_path / "pairs.parquet", range(3))
    for path in (tmp_path, tmp_path / "pairs.parquet", tmp_path / "*.parquet"):
        with pytest.raises(
            ValueError, match=r"split: train and restval are both read from pairs.parquet.*column_equals"
        ):
            source_of(path, streaming, split=["train", "restval"])


def test_one_split_never_stands_for_another(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "valid-0"):
        parquet(tmp_path / f"{name}.parquet", range(2))
    assert len(caption_source(path=str(tmp_path), split="validation")) == 2, "by its other name"
    with pytest.raises(
        UnreachableData, match=r"split 'test'\) cannot be opened: .* other splits: train, valid; name one"
    ):
        caption_source(path=str(tmp_path), split="test")
    parquet(tmp_path / "latest.parquet", range(3))
    assert len(caption_source(path=str(tmp_path), split="test")) == 3, "a file that names no split is of any"


@pytest.mark.parametrize("streaming", [False, True])
def test_errors_name_the_file_and_what_is_wrong(streaming: bool, tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", range(4))
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(UnreachableData, match=r"these files are empty: b.parquet; fetch them again, or remove them"):
        source_of(tmp_path, streaming)
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:900])
    with pytest.raises(UnreachableData, match=r"Parquet magic bytes not found in footer"):
        source_of(tmp_path, streaming)
    with pytest.raises(ValueError, match=r"no image column among image, caption.*; name yours: data.train.image_col"):
        source_of(tmp_path / "a.parquet", streaming, image_columns=["picture"])
