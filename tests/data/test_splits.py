"""The split that is asked for is read from files named after it or rows that say so, or is refused."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from cliplab.data.captions import CaptionDataset
from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.filters import RowFilters
from cliplab.data.sources import caption_source
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform, TrainTransform

from .conftest import png

SPLITS = ["train", "restval", "val", "test", "train"]


def pairs(file: Path, count: int = 3, **columns: list[str]) -> Path:
    table = {"image": [png(i) for i in range(count)], "caption": [f"number {i}" for i in range(count)], **columns}
    pyarrow.parquet.write_table(pyarrow.table(table), file)
    return file


def karpathy(folder: Path) -> Path:
    images = []
    for number, split in enumerate(SPLITS):
        (folder / f"{number}.png").write_bytes(png(number))
        sentences = [{"raw": f"number {number}"}]
        images.append({"filename": f"{number}.png", "split": split, "sentences": sentences, "imgid": number})
    file = folder / "dataset.json"
    file.write_text(json.dumps({"images": images, "dataset": "own"}))
    return file


def captions(path: Path, streaming: bool = False, **options: object) -> list[str]:
    samples = {"samples_per_epoch": 4} if streaming else {}
    source = caption_source(path=str(path), streaming=streaming, **samples, **options)
    if isinstance(source, CaptionDataset):
        return [source.all_captions(i)[0] for i in range(len(source))]
    rows = source.rows
    return [rows.captions(row.values)[0] for row in source.raw_rows() if not rows.refused(row.values)]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_names_the_split_of_each_row(streaming: bool, tmp_path: Path) -> None:
    file = karpathy(tmp_path)
    for split, numbers in {"train": [0, 1, 4], "validation": [2], "test": [3], "restval": [1]}.items():
        assert captions(file, streaming, split=split) == [f"number {i}" for i in numbers], split
    filters = RowFilters(column_equals={"split": ["restval", "val"]})
    assert captions(file, streaming, filters=filters) == ["number 1", "number 2"], "what was set remains"


def test_a_column_with_other_values_is_a_column_like_others(tmp_path: Path) -> None:
    assert len(captions(pairs(tmp_path / "pairs.parquet", split=["a", "b", "a"]))) == 3


@pytest.mark.parametrize("streaming", [False, True])
def test_a_split_of_which_there_is_no_file_is_refused(streaming: bool, tmp_path: Path) -> None:
    file = pairs(tmp_path / "pairs.parquet")
    for path in (tmp_path, file):
        with pytest.raises(
            ValueError, match=r"split: no file is named after split 'nope' \(pairs.parquet\); .*data_files"
        ):
            captions(path, streaming, split="nope")
    pairs(tmp_path / "nope-0.parquet", count=2)
    assert len(captions(tmp_path, streaming, split="nope")) == 2
    assert len(captions(file, streaming, split="validation")) == 3, "a file that names no split is of any"


@pytest.mark.parametrize(
    ("named", "split"), [("dev", "validation"), ("eval", "test"), ("evaluation", "test"), ("valid", "dev")]
)
def test_a_split_may_have_any_of_its_usual_names(named: str, split: str, tmp_path: Path) -> None:
    for kind in ("folders", "files"):
        for number, name in enumerate(("train", named), 1):
            file = tmp_path / kind / (f"{name}/0.parquet" if kind == "folders" else f"{name}-0.parquet")
            file.parent.mkdir(parents=True, exist_ok=True)
            pairs(file, count=number)
        assert captions(tmp_path / kind, split=split) == ["number 0", "number 1"], kind
        assert captions(tmp_path / kind, split="train") == ["number 0"], kind
    file = pairs(tmp_path / "rows.parquet", split=["train", named, "train"])
    assert captions(file, split=split) == ["number 1"]


@pytest.mark.parametrize("key", ["name", "revision"])
def test_keys_of_a_hub_are_refused_beside_local_data(key: str, tmp_path: Path) -> None:
    pairs(tmp_path / "pairs.parquet")
    with pytest.raises(
        ValueError, match=f"data.train.{key}: .* is local, and {key}=large is for data on a hub; leave it"
    ):
        caption_source(path=str(tmp_path), **{key: "large"})
    (tmp_path / "pairs.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=f"data.train.{key}: "):  # before a file is opened
        caption_source(path=str(tmp_path), **{key: "large"})


def test_validation_pairs_that_are_the_training_pairs_are_refused(tmp_path: Path) -> None:
    def module(validation: Path) -> CaptionDataModule:
        return CaptionDataModule(
            train=caption_source(path=str(tmp_path / "a.parquet")),
            validation=caption_source(path=str(validation), split="validation"),  # type: ignore[arg-type]
            train_transform=TrainTransform(16),
            eval_transform=EvalTransform(16),
            tokenizer=CLIPTokenizer(32),
            batch_size=1,
            seed=1,
        )

    pairs(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"data.validation: its 3 pairs are those of data.train; name others"):
        module(tmp_path / "a.parquet")
    assert module(pairs(tmp_path / "b.parquet", count=2)).validation is not None
