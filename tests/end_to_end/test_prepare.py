"""task=prepare: every usable row once, in shards that read back; the same files after a stop."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from cliplab.assembly import preparing as prepare
from cliplab.benchmarks.loader import photograph
from cliplab.data import shards
from cliplab.data.images import decode_image
from cliplab.data.sources import caption_source


def rotated() -> bytes:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.open(io.BytesIO(photograph(77, 30, 20))).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


SMALL = photograph(50, 30, 20)
PICTURES = [photograph(i, 80, 60) for i in range(8)]
PICTURES += [b"<html>", PICTURES[2], SMALL, rotated(), PICTURES[0], b""]
CAPTIONS = [f"number {i}\nagain {i}" for i in range(12)] + ["a third name of number 0", "none"]
KEPT = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]
LEFT_OUT = [(8, "not_an_image"), (9, "duplicate"), (12, "duplicate"), (13, "empty")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    datasets.Dataset.from_dict({"jpg": PICTURES, "txt": CAPTIONS}).to_parquet(folder / "train.parquet")
    return folder


@pytest.fixture
def arguments(source: Path) -> list[str]:
    settings = ["task.shortest_side=32", "task.rows_per_shard=4", "task.workers=2"]
    return ["task=prepare", "data=local_parquet", f"data.path={source}", *settings]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def pairs(folder: Path) -> list[tuple[bytes, list[str]]]:
    read = caption_source(path=str(folder))
    return [(read.picture(i).tobytes(), read.all_captions(i)) for i in range(len(read))]


def test_both_formats_hold_every_usable_row_once(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {}
    for kind in shards.FORMATS:
        out = tmp_path / kind
        assert command(*arguments, f"out={out}", f"task.format={kind}") == 0
        assert capsys.readouterr().out.strip().endswith(str(out))
        assert sorted(p.stem for p in out.glob("train-*")) == ["train-00000", "train-00001", "train-00002"]
        with (out / "left_out.csv").open() as file:
            assert [(int(row["row"]), row["reason"]) for row in csv.DictReader(file)] == LEFT_OUT
        statistics = json.loads((out / "prepared.json").read_text())["statistics"]
        assert (statistics["rows_read"], statistics["rows"], statistics["captions"]) == (14, 10, 20)
        assert statistics["left_out"] == {"duplicate": 2, "empty": 1, "not_an_image": 1}
        made[kind] = pairs(out)
    assert made["parquet"] == made["webdataset"]
    assert [texts for _, texts in made["parquet"]] == [CAPTIONS[i].split("\n") for i in KEPT]
    stream = caption_source(path=str(tmp_path / "parquet"), streaming=True, samples_per_epoch=10)
    assert [part.rows for part in stream.layout.parts] == [4, 4, 2]

    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "parquet" / "*.parquet"), split="train")
    assert isinstance(rows.features["image"], datasets.Image)
    assert [row["image"].size for row in rows] == [(43, 32)] * 8 + [(30, 20), (20, 30)]
    assert rows["row"] == KEPT
    assert rows.cast_column("image", datasets.Image(decode=False))[8]["image"]["bytes"] == SMALL, "kept as it came"
    turned = np.asarray(rows[9]["image"]).astype(int)
    assert np.abs(turned - np.asarray(decode_image(rotated())).astype(int)).mean() < 8


@pytest.mark.parametrize("kind", shards.FORMATS)
def test_after_any_stop_the_same_files(
    kind: str, command: Callable[..., int], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*arguments, f"task.format={kind}"]
    assert command(*arguments, f"out={tmp_path}/whole") == 0
    out, write = tmp_path / "stopped", prepare.whole_file
    calls: list[Path] = []

    def failing(path: Path, *options: Any, **named: Any) -> Any:
        calls.append(path)
        if len(calls) == 2:
            raise OSError("no space left on device")
        return write(path, *options, **named)

    monkeypatch.setattr(prepare, "whole_file", failing)
    for _ in range(3):  # before the record of each shard in turn
        calls.clear()
        assert command(*arguments, f"out={out}") == 1
        assert (out / "unfinished").is_dir()
        assert not (out / "prepared.json").exists()
    monkeypatch.setattr(prepare, "whole_file", write)
    assert command(*arguments, f"out={out}", "task.workers=1") == 0
    assert files(out) == files(tmp_path / "whole")
    assert command(*arguments, f"out={out}") == 0, "again: nothing to do"


def test_what_is_kept_and_how(command: Callable[..., int], arguments: list[str], tmp_path: Path) -> None:
    settings = ["task.shortest_side=null", "task.deduplicate=null", "task.encoding=webp", "task.quality=80"]
    assert command(*arguments, f"out={tmp_path}/a", *settings) == 0
    rows = datasets.load_dataset("parquet", data_files=f"{tmp_path}/a/*.parquet", split="train")
    assert rows["row"] == [*range(8), 9, 10, 11, 12]
    assert {row["image"].format for row in rows} == {"WEBP"}
    settings = ["task.deduplicate=bytes", "task.encoding=png", "data.train.filters.min_side=25"]
    assert command(*arguments, f"out={tmp_path}/b", *settings) == 0
    rows = datasets.load_dataset("parquet", data_files=f"{tmp_path}/b/*.parquet", split="train")
    assert rows["row"] == KEPT[:8], "the two small ones are not wanted"
    assert "10,train.parquet row 10,smaller than 25,filter" in (tmp_path / "b" / "left_out.csv").read_text()
    assert {row["image"].format for row in rows} == {"PNG"}


def test_mistakes(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*more: str) -> str:
        assert command(*arguments, *more) == 1
        return capsys.readouterr().err

    assert "out: task=prepare needs a folder" in told()
    assert "task.format: 'zip' is not a choice; the choices are parquet, webdataset" in told(
        f"out={tmp_path}/x", "task.format=zip"
    )
    assert "task.rows_per_shard: 0 must be" in told(f"out={tmp_path}/x", "task.rows_per_shard=0")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "holds other files" in told(f"out={tmp_path}/full")
    unusable = told(f"out={tmp_path}/none", "data.train.filters.min_side=900")
    assert (
        "none of 14 rows can be used: 12 smaller than 900, 1 not_an_image, 1 empty; the first is train.parquet row 0; repair"
        in unusable
    )
    assert not (tmp_path / "none").exists()
    assert command(*arguments, f"out={tmp_path}/done") == 0
    assert "was begun with other settings: quality was 95 and is 50" in told(f"out={tmp_path}/done", "task.quality=50")
