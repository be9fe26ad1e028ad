"""One shape for every source: formats and choice of captions, filters, and errors that name what was found."""

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from cliplab.data import captions as captions_module
from cliplab.data.caption_cells import caption_reader, captions_of
from cliplab.data.captions import caption_pairs
from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.filters import RowFilters
from cliplab.data.images import BadImage
from cliplab.data.layout import DataError, damaged_note
from cliplab.data.library import LibraryStream
from cliplab.data.sources import caption_source
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform, TrainTransform

from .conftest import ROWS, captions, picture


@pytest.mark.parametrize(
    ("caption_format", "cell", "expected"),
    [
        ("lines", "one\ntwo", ["one", "two"]),
        ("text", "one\ntwo", ["one\ntwo"]),
        ("text", ["one\ntwo", "three"], ["one\ntwo", "three"]),
        ("json:caption", b'{"caption": "one"}', ["one"]),
        ("json:sentences.*.raw", {"sentences": [{"raw": "one"}, {"raw": "two"}]}, ["one", "two"]),
        (
            "json:*.from:gpt.value",
            [{"from": "human", "value": "<image> what?"}, {"from": "gpt", "value": "one"}],
            ["one"],
        ),
        ("json:role:user.text", {"role": "user", "text": "one"}, ["one"]),
        ("json:role:user.text", {"role": "user", "role:user": {"text": "two"}}, ["two"]),
        (
            "json:*.role:assistant.content",
            [{"role": "user", "content": "what?"}, {"role": "assistant", "content": "one"}],
            ["one"],
        ),
        ("json:1.text", '[{"text": "one"}, {"text": ["two", "three"]}]', ["two", "three"]),
    ],
)
def test_formats_of_captions(caption_format: str, cell: Any, expected: list[str]) -> None:
    assert captions_of(cell, caption_reader(caption_format)) == expected


@pytest.mark.parametrize(
    ("cell", "reason"), [("{no json", "caption_not_json"), ("{}", "no_caption"), ('{"a": 5}', "caption_not_text")]
)
def test_json_without_a_caption(cell: str, reason: str) -> None:
    with pytest.raises(BadImage) as raised:
        captions_of(cell, caption_reader("json:a"))
    assert raised.value.reason == reason


def prepared(source: Any, batch_size: int = 4) -> CaptionDataModule:
    return CaptionDataModule(
        train=source,
        validation=None,
        train_transform=TrainTransform(16),
        eval_transform=EvalTransform(16),
        tokenizer=CLIPTokenizer(32),
        batch_size=batch_size,
        seed=3,
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_all_captions_are_samples_of_their_own(streaming: bool, layouts: dict[str, Path]) -> None:
    options = {"streaming": True, "samples_per_epoch": 2 * ROWS, "parts": 1} if streaming else {}
    source = caption_source(path=str(layouts["parquet_of_images"]), caption_choice="all", **options)
    module = prepared(source)
    batches = list(module.train_dataloader())
    assert len(batches) == 2 * ROWS // 4
    texts = module.tokenizer([text for i in range(ROWS) for text in captions(i)])
    seen = sorted(tuple(row[:n].tolist()) for b in batches for row, n in zip(b.tokens.ids, b.tokens.lengths))
    assert seen == sorted(tuple(row[:n].tolist()) for row, n in zip(texts.ids, texts.lengths))
    if not streaming:
        groups = sorted(int(g) for b in batches for g in b.groups)
        assert groups == sorted([*range(ROWS), *range(ROWS)]), "captions of one picture are one group"


def test_first_caption_is_the_first_in_every_epoch(layouts: dict[str, Path]) -> None:
    source = caption_source(path=str(layouts["arrow"]), caption_choice="first")
    prepared(source)
    assert {source[(epoch, 5)].caption for epoch in range(10)} == {captions(5)[0]}


def assorted(folder: Path) -> str:
    """Twelve pictures of growing size whose columns say who they are."""
    rows = range(ROWS)
    data = {
        "image": [Image.new("RGB", (10 + i, 20)) for i in rows],
        "caption": ["x" * (i + 1) for i in rows],
        "score": [i / 10 if i != 3 else None for i in rows],
        "safe": ["yes" if i % 2 else "no" for i in rows],
        "language": ["en", "de", "fr"] * 4,
        "json": [{"score": i} for i in rows],
    }
    datasets.Dataset.from_dict(data).to_parquet(folder / "train.parquet")
    return str(folder)


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({}, range(12)),
        ({"min_side": 15}, range(5, 12)),
        ({"max_aspect": 1.5}, range(4, 12)),
        ({"min_characters": 3, "max_characters": 5}, (2, 3, 4)),
        ({"column_min": {"score": 0.25}}, range(4, 12)),
        ({"column_min": {"json.score": 9}}, (9, 10, 11)),
        ({"column_equals": {"safe": "yes"}}, range(1, 12, 2)),
        ({"column_equals": {"safe": ["yes", "maybe"]}}, range(1, 12, 2)),
        ({"languages": ["en", "fr"]}, [i for i in range(12) if i % 3 != 1]),
        ({"languages": ["yes"], "language_column": "safe", "min_side": 18}, (9, 11)),
    ],
    ids=str,
)
@pytest.mark.parametrize("streaming", [False, True])
def test_filters(streaming: bool, filters: dict[str, Any], kept: Any, tmp_path: Path) -> None:
    path = assorted(tmp_path)
    options = {"streaming": True, "samples_per_epoch": len(kept)} if streaming else {}
    source = caption_source(path=path, filters=RowFilters(**filters), **options)
    if streaming:
        rows = (row.row.values for row in source._turn(0, 0, 1))
        assert sorted(len(row["caption"]) - 1 for row in rows) == list(kept)
        return
    assert [source.picture(k).width - 10 for k in range(len(source))] == list(kept)
    assert sum(source.refused.values()) == ROWS - len(kept)


def test_sizes_come_from_columns_when_there_are_any(tmp_path: Path) -> None:
    rows = {"image": [b"", b"x"], "caption": ["a", "b"], "width": [50, 9], "height": [40, 90]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    source = caption_source(path=str(tmp_path), filters=RowFilters(min_side=10))
    assert source.kept.tolist() == [0]


def test_paths_in_a_table_begin_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with (tmp_path / "pairs.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([["filepath", "title"], *([f"images/{i}.png", f"number {i}"] for i in range(4))])
    for i in range(4):
        picture(i).save(tmp_path / "images" / f"{i}.png")
    columns = {"image_columns": ["filepath"], "caption_columns": ["title"]}
    for path in (tmp_path, tmp_path / "pairs.tsv"):
        source = caption_source(path=str(path), **columns)
        assert source.picture(2).tobytes() == picture(2).tobytes()


def test_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    def written(place: str, change: int | None = None, **options: Any) -> tuple[str, str]:
        folder = tmp_path / place
        folder.mkdir()
        rows = {"image": [picture(i) for i in range(8)], "caption": [f"number {i}" for i in range(8)]}
        if change is not None:
            rows["image"][change] = picture(11)
        features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
        rows_source = caption_source(path=str(folder), **options)
        stream = caption_source(path=str(folder), streaming=True, samples_per_epoch=8, **options)
        return rows_source.fingerprint, stream.fingerprint

    first, copied = written("a"), written("b")
    changed, filtered = written("c", change=5), written("d", filters=RowFilters(min_side=2))
    assert first == copied
    for k in range(2):
        assert len({first[k], changed[k], filtered[k]}) == 3


def test_evaluation_pairs_of_a_table_with_relative_paths_have_one_fingerprint_wherever_they_lie(tmp_path: Path) -> None:
    def pairs(place: str, last: int) -> str:
        (tmp_path / place / "pictures").mkdir(parents=True)
        for number, shown in enumerate((0, 1, last)):
            picture(shown).save(tmp_path / place / "pictures" / f"{number}.png")
        lines = ["image,caption", *(f"pictures/{k}.png,number {k}" for k in range(3))]
        (tmp_path / place / "test.csv").write_text("\n".join(lines))
        return caption_pairs(path=str(tmp_path / place)).fingerprint

    assert pairs("a", 2) == pairs("b", 2) != pairs("c", 3)


def test_a_damaged_file_is_named_once_in_the_note_of_an_evaluation() -> None:
    assert damaged_note([]) == []
    (note,) = damaged_note([("damaged_tar", "a.tar: cut short")] * 5 + [("missing", "b.tar: 3")])
    assert note == "6 rows or files are damaged and left out: a.tar: cut short (damaged_tar), b.tar: 3 (missing)"


def test_errors_name_what_was_found(layouts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(layouts["parquet_of_images"])
    with pytest.raises(ValueError, match=r"no filter column among image, captions; looked for score"):
        caption_source(path=path, filters=RowFilters(column_min={"score": 1}))
    with pytest.raises(ValueError, match=r"data.train.filters leave none of 12 rows: {'smaller than 500': 12}"):
        caption_source(path=path, filters=RowFilters(min_side=500))
    with pytest.raises(ValueError, match=r"caption_choice 'last' must be one of random, first, all"):
        caption_source(path=path, caption_choice="last")
    with pytest.raises(ValueError, match=r"caption_format 'json:' must be lines, text or json:<path>"):
        caption_source(path=path, caption_format="json:")
    with pytest.raises(ValueError, match=r"caption_format 'xml' must be lines, text or json:<path>"):
        caption_source(path=path, caption_format="xml")
    with pytest.raises(ValueError, match=r"data.train.on_error 'ignore' must be one of replace, stop"):
        caption_source(path=path, on_error="ignore")
    datasets.Dataset.from_dict({"image": [], "text": []}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"split 'train' is empty; its columns are image, text"):
        caption_source(path=str(tmp_path))
    # A hub id whose rows are addresses is refused before it is downloaded.
    stream = datasets.Dataset.from_dict({"url": ["http://x"], "text": ["y"]}).to_iterable_dataset()
    monkeypatch.setattr(
        captions_module, "open_layout", lambda place: LibraryStream(stream, "someone/addresses", lambda: "")
    )
    with pytest.raises(ValueError, match=r"holds addresses, not images: fetch them with img2dataset .*data=webdataset"):
        caption_source(path="someone/addresses")


@pytest.mark.parametrize("streaming", [False, True])
def test_an_unusable_row_can_stop_the_run(streaming: bool, tmp_path: Path) -> None:
    rows = {"jpg": [b"no picture"] * 4, "txt": ["a"] * 4}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    options = {"streaming": True, "samples_per_epoch": 4} if streaming else {}
    module = prepared(caption_source(path=str(tmp_path), on_error="stop", **options))
    with pytest.raises(DataError, match=r"is unusable: not_an_image.*on_error=replace"):
        list(module.train_dataloader())


def test_metadata_in_json_columns(tmp_path: Path) -> None:
    rows = {"image": [picture(i) for i in range(4)], "json": [json.dumps({"c": [f"number {i}"]}) for i in range(4)]}
    features = datasets.Features({"image": datasets.Image(), "json": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    source = caption_source(path=str(tmp_path), caption_columns=["json"], caption_format="json:c.*")
    prepared(source)
    assert source[(0, 2)].caption == "number 2"
    assert np.array_equal(source.groups, np.arange(4))
    sent = pickle.loads(pickle.dumps(source.rows))  # as to the processes of task=prepare
    assert sent.captions(source.row(2).values) == ["number 2"]
