"""A run over a mixture with unusable rows reports what it read; a stream without a length asks how long to train."""

import csv
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from .conftest import NAMES, only_run, picture


def test_what_was_read_is_reported_each_epoch_and_in_the_manifest(
    command: Callable[..., int],
    arguments: list[str],
    shapes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "holed"
    folder.mkdir()
    picture(0, 0).save(folder / "sound.png")
    sound = (folder / "sound.png").read_bytes()
    rows = {"jpg": [b"<html>" if k == 3 else sound for k in range(16)], "txt": [NAMES[0]] * 16}
    datasets.Dataset.from_dict(rows).to_parquet(folder / "train.parquet")
    mixture = [
        "data=mixture",
        "data.train.weights={cc3m: 2, cc12m: 1}",
        "data.samples_per_epoch=48",
        f"data.train.sources.cc3m.path={shapes}",
        "data.train.sources.cc3m.image_columns=[image]",
        "data.train.sources.cc3m.caption_columns=[caption]",
        f"data.train.sources.cc12m.path={folder}",
        "data.max_bad_fraction=0.2",
    ]
    assert command(*mixture, *(a for a in arguments if not a.startswith(("data=", "data.path")))) == 0
    run = only_run(tmp_path)
    with (run / "metrics.csv").open() as file:
        rows_by_step = {int(row["step"]): row for row in csv.DictReader(file)}
    for epoch in (1, 2, 3):
        row = rows_by_step[3 * epoch]
        assert [float(row[f"data/samples{name}"]) for name in ("", "/cc3m", "/cc12m")] == [
            48 * epoch,
            32 * epoch,
            16 * epoch,
        ]
        assert float(row["data/bad/not_an_image"]) == epoch
    assert "step 3: 48 samples read, 1 unusable rows replaced (1 not_an_image)" in capsys.readouterr().err
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["bad_samples"] == {"not_an_image": 3}
    assert manifest["first_bad_samples"] == ["cc12m train.parquet row 3: not_an_image"]


def tars(folder: Path, count: int) -> None:
    """Two tars of pairs, as img2dataset writes them."""
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for number in range(shard, count, 2):
                file = folder / "picture.png"
                picture(number % 8, number).save(file)
                caption = folder / "caption.txt"
                caption.write_text(NAMES[number % 8])
                tar.add(file, f"{number:05}.png")
                tar.add(caption, f"{number:05}.txt")
    file.unlink()
    caption.unlink()


@pytest.mark.parametrize("streaming", [False, True])
def test_sources_of_ones_own_are_mixed_by_weight(
    command: Callable[..., int], arguments: list[str], shapes: Path, tmp_path: Path, streaming: bool
) -> None:
    tars(tmp_path / "web", 16)
    mixture = [
        "data=own_mixture",
        f"data.train.sources={{photos: {shapes}, web: {{path: {tmp_path / 'web'}, caption_columns: [txt]}}}}",
        "data.train.weights={photos: 3, web: 1}",
        "data.samples_per_epoch=32",
        f"data.streaming={streaming}",
        "trainer.max_epochs=1",
    ]
    assert command(*(a for a in arguments if not a.startswith(("data=", "data.path", "trainer.max_ep"))), *mixture) == 0
    with (only_run(tmp_path) / "metrics.csv").open() as file:
        read = [row for row in csv.DictReader(file) if row["data/samples"]][-1]
    assert float(read["data/samples"]) == 32
    if streaming:  # exact over every thousand rows of a part only
        assert float(read["data/samples/photos"]) > float(read["data/samples/web"]) > 0
    else:
        assert (float(read["data/samples/photos"]), float(read["data/samples/web"])) == (24, 8)


def test_a_stream_without_a_length(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*arguments, "data.streaming=true"]
    assert command(*argv) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "a stream has no length" in said
    assert "trainer.max_steps=<steps>" in said
    assert command(*argv, "trainer.max_steps=4", "trainer.max_epochs=-1") == 0
    (history_file,) = tmp_path.rglob("history.jsonl")
    history = history_file.read_text().splitlines()
    assert [(json.loads(line)["step"], json.loads(line)["epoch"]) for line in history] == [(0, 0), (4, 1)]


def test_too_many_unusable_rows_stop_a_run_however_short(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "holed"
    folder.mkdir()
    picture(0, 0).save(folder / "sound.png")
    sound = (folder / "sound.png").read_bytes()
    rows = {"jpg": [b"<html>" if k % 4 == 0 else sound for k in range(16)], "txt": [NAMES[0]] * 16}
    datasets.Dataset.from_dict(rows).to_parquet(folder / "train.parquet")
    argv = [*(a for a in arguments if not a.startswith("data.path")), f"data.path={folder}", "trainer.max_epochs=1"]
    assert command(*argv) == 1
    said = capsys.readouterr().err
    assert "error: 4 of 16 rows are unusable (not_an_image), more than data.max_bad_fraction=0.05 allows" in said
    assert "go on without such rows by data.max_bad_fraction=0.3." in said
    assert command(*argv, "data.max_bad_fraction=0.25") == 0
