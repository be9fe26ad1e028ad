"""Tars of a data set on the hub: a folder stands in for the repository, and the library's own builder lists its files."""

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.packaged_modules.webdataset.webdataset import WebDataset

from cliplab.data import hub_tars as module
from cliplab.data.hub_tars import HubFile, HubTars, hub_tars
from cliplab.data.labelled import LabelledImages
from cliplab.data.opening import Location, open_layout, open_rows
from cliplab.data.sources import caption_source

from .conftest import png
from .tars import pairs, write_tar
from .test_bad_rows import read

REPOSITORY, COMMIT = "owner/set", "f" * 40


class Hub:
    """A repository with the files of ``folder``; ``fetched`` are those that were downloaded."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache, self.fetched = folder, cache, list[str]()

    def builder(self, path: str, **arguments: Any) -> WebDataset:
        assert (path, arguments.get("revision")) == (REPOSITORY, None)
        files: dict[str, list[str]] = {}
        for file in sorted(self.folder.rglob("*.tar*")):
            name = str(file.relative_to(self.folder))
            files.setdefault(name.split("/")[0], []).append(f"hf://datasets/{REPOSITORY}@{COMMIT}/{name}")
        listed = DataFilesDict({split: DataFilesList(names, []) for split, names in files.items()})
        return WebDataset(cache_dir=str(self.cache), data_files=listed)

    def kept(self, repository: str, name: str, **_: Any) -> str | None:
        file = self.cache / COMMIT / name
        return str(file) if file.is_file() else None

    def download(self, repository: str, name: str, local_dir: Path | None = None, **known: Any) -> str:
        if not (self.folder / name).is_file():  # of names and templates beside a set
            raise OSError(name)
        assert (repository, known) == (REPOSITORY, {"repo_type": "dataset", "revision": COMMIT})
        self.fetched.append(name)
        file = (local_dir or self.cache / COMMIT) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / name, file)
        return str(file)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Four tars: pictures of other kinds than the first, a sample without a caption among the first five, captions in JSON
    of a compressed tar, and a page of an error in place of one."""
    folder = tmp_path / "repository"
    (folder / "train").mkdir(parents=True)
    mixed = [("0.jpg", png(1)), ("1.png", png(2)), ("1.txt", b"one"), ("2.WEBP", png(3)), ("2.TXT", b"two")]
    write_tar(folder / "train" / "0.tar", [("0.caption", b"none"), *mixed])
    write_tar(folder / "train" / "1.tar", pairs(20))
    told = [(f"{k}.json", json.dumps({"caption": f"told {k}"}).encode()) for k in range(20)]
    packed = write_tar(tmp_path / "packed", [*told, *((f"{k}.png", png(k % 12)) for k in range(20))])
    (folder / "train" / "2.tar.gz").write_bytes(gzip.compress(packed.read_bytes()))
    (folder / "train" / "3.tar").write_bytes(b"<!DOCTYPE html><html>403</html>" * 40)
    found = Hub(folder, tmp_path / "cache")
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", None)
    monkeypatch.setattr(module.datasets, "load_dataset_builder", found.builder)
    monkeypatch.setattr(module.huggingface_hub, "try_to_load_from_cache", found.kept)
    monkeypatch.setattr(module.huggingface_hub, "hf_hub_download", found.download)
    yield found
    monkeypatch.setattr(module.tempfile, "tempdir", None)


def test_rows_of_all_tars_are_fetched_once_and_damage_is_counted(hub: Hub) -> None:
    opened = open_rows(Location(REPOSITORY))
    captions = [caption and caption[0] for caption in opened.dataset["caption"][:]]
    assert captions == ["none", "one", "two", *(f"number {k}" for k in range(20)), *(f"told {k}" for k in range(20))]
    assert opened.place(1) == "train/0.tar: 1"
    assert {place for _, place in opened.damaged} == {"train/3.tar: it is an HTML page"}
    assert len(opened.damaged) == 14, "as many as the others hold on average"
    assert hub.fetched == ["train/0.tar", "train/1.tar", "train/2.tar.gz", "train/3.tar"]
    open_rows(Location(REPOSITORY))
    assert len(hub.fetched) == 4


def test_a_stream_holds_the_tars_it_reads_and_no_others(hub: Hub, tmp_path: Path) -> None:
    layout = open_layout(Location(REPOSITORY))
    assert isinstance(layout, HubTars)
    assert {"__key__", "image", "caption"} <= set(layout.columns)
    assert hub.fetched == ["train/0.tar"], "it tells the columns, and is kept"
    rows = layout.rows(1, 5)
    assert next(rows).place == "train/1.tar: 005"
    assert len(list((tmp_path / "tmp").rglob("*.tar"))) == 1
    assert [row.values["caption"] for row in rows] == [[f"number {k}"] for k in range(6, 20)]
    assert not list((tmp_path / "tmp").rglob("*.tar*"))
    assert [row.place for row in layout.rows(0)] == [f"train/0.tar: {k}" for k in range(3)]
    assert hub.fetched == ["train/0.tar", "train/1.tar"]
    del layout, rows
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("streaming", [False, True])
def test_training_reads_them_and_weighs_a_broken_one(streaming: bool, hub: Hub) -> None:
    options = {"streaming": True, "samples_per_epoch": 80, "parts": 2, "shuffle_buffer": 8} if streaming else {}
    source = caption_source(path=REPOSITORY, **options)
    module, texts = read(source, max_bad_fraction=1.0)
    assert {text.split()[0] for text in texts} == {"none", "one", "two", "number", "told"}
    lost = module.all_counts().bad["not_a_tar"]
    assert lost % 3 == 0 and lost if streaming else lost == 14, "in a stream by the first one's three, in each turn"


def test_what_was_fetched_is_read_without_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("cliplab.data.opening.reach_hub", lambda path: None)
    open_rows(Location(REPOSITORY))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(module.datasets, "load_dataset_builder", lambda *_, **__: pytest.fail("asked"))
    assert hub_tars(REPOSITORY, "train", {"name": None, "revision": None}) == [
        HubFile(REPOSITORY, COMMIT, f"train/{name}") for name in ("0.tar", "1.tar", "2.tar.gz", "3.tar")
    ]
    assert len(open_rows(Location(REPOSITORY)).dataset) == 43


def test_a_split_that_is_not_there_is_told(hub: Hub) -> None:
    with pytest.raises(ValueError, match=r"there is no split 'test'; there are train"):
        open_rows(Location(REPOSITORY, "test"))


def test_a_labelled_set_as_clip_benchmark_has_them(hub: Hub) -> None:
    (hub.folder / "test").mkdir()
    members = [(f"{k}.{end}", data) for k in range(6) for end, data in (("webp", png(k)), ("cls", b"%d" % (k % 3)))]
    write_tar(hub.folder / "test" / "0.tar", members)
    data = LabelledImages(path=REPOSITORY, split="test", class_names=["a", "b", "c"], label_columns=["cls"])
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.picture(3).size[0] > 0


def test_a_worker_leaves_its_parents_folder(hub: Hub) -> None:
    layout = HubTars([HubFile(REPOSITORY, COMMIT, "train/1.tar")])
    module._remove(layout.folder, os.getpid() + 1)
    assert Path(layout.folder).is_dir()
