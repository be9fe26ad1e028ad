"""Labelled sets in the layouts of the field, and labels that do not fit their names."""

import io
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest

from cliplab.data.hub import UnreachableData
from cliplab.data.labelled import LabelledImages, MultiLabelImages

from .conftest import picture, png

NAMES = ["ant", "bee_eater", "cat"]


def class_folders(folder: Path) -> dict:
    for i in range(6):
        (folder / NAMES[i % 3]).mkdir(exist_ok=True)
        picture(i).save(folder / NAMES[i % 3] / f"{i}.png")
    return {"split": "train"}


def parquet(folder: Path) -> dict:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    rows = {"image": [picture(i) for i in range(6)], "label": [i % 3 for i in range(6)]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "validation.parquet")
    return {}


def webdataset(folder: Path) -> dict:
    with tarfile.open(folder / "validation-0.tar", "w") as tar:
        for i in range(6):
            for suffix, data in (("png", png(i)), ("cls", str(i % 3).encode())):
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    (folder / "names.txt").write_text("ant\nbee eater\ncat\n")
    return {"class_names": str(folder / "names.txt")}


def clip_benchmark(folder: Path) -> dict:
    """Their layout: ``test/N.tar`` with names and templates beside."""
    for split, count in (("test", 3), ("train", 1)):
        (folder / split).mkdir()
        (folder / split / "nshards.txt").write_text(str(count))
        for shard in range(count):
            with tarfile.open(folder / split / f"{shard}.tar", "w") as tar:
                for i in (2 * shard, 2 * shard + 1):
                    for suffix, data in (("png", png(i)), ("cls", str(i % 3).encode())):
                        member = tarfile.TarInfo(f"s{i:07}.{suffix}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
    (folder / "classnames.txt").write_text("ant\nbee eater\ncat\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\na drawing of a {c}.\n")
    return {"split": "test"}


def table_of_paths(folder: Path) -> dict:
    (folder / "pictures").mkdir()
    for i in range(6):
        picture(i).save(folder / "pictures" / f"{i}.png")
    (folder / "test.csv").write_text(
        "\n".join(["image,label", *(f"pictures/{i}.png,{NAMES[i % 3]}" for i in range(6))])
    )
    return {"split": "test"}


def bytes_and_bare_numbers(folder: Path) -> dict:
    rows = {"jpg": [png(i) for i in range(6)], "fine_label": [i % 3 for i in range(6)]}
    datasets.Dataset.from_dict(rows).to_parquet(folder / "test.parquet")
    return {"split": "test", "class_names": ["ant", "bee eater", "cat"], "label_columns": ["fine_label"]}


@pytest.mark.parametrize(
    "layout", [class_folders, parquet, webdataset, clip_benchmark, bytes_and_bare_numbers, table_of_paths]
)
def test_layout(layout, tmp_path: Path) -> None:
    data = LabelledImages(path=str(tmp_path), **layout(tmp_path))
    assert data.class_names == ["ant", "bee eater", "cat"]
    assert sorted(data.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    red = int(data.picture(0).getpixel((0, 0))[0]) // 20
    assert data.target(0) == red % 3
    assert len(data.fingerprint) == 16


def test_clip_benchmarks_templates_are_read_as_they_are(tmp_path: Path) -> None:
    data = LabelledImages(path=str(tmp_path), **clip_benchmark(tmp_path))
    assert data.templates == ["a photo of a {c}.", "a drawing of a {c}."]
    assert len(data) == 6


def test_folders_called_by_numbers_are_labels(tmp_path: Path) -> None:
    """Sorted as text 10 comes before 2."""
    for label in (0, 1, 2, 10):
        (tmp_path / str(label)).mkdir()
        picture(label).save(tmp_path / str(label) / "x.png")
    data = LabelledImages(path=str(tmp_path), split="test")
    assert data.class_names is None
    assert sorted(data.labels.tolist()) == [0, 1, 2, 10]
    for i, label in enumerate(data.labels):
        assert data.picture(i).getpixel((0, 0))[0] == 20 * label


def test_several_labels_an_image(tmp_path: Path) -> None:
    """A 0 or 1 for each class in npy files as CLIP_benchmark writes them, or lists of classes."""
    wanted = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    (tmp_path / "test").mkdir()
    with tarfile.open(tmp_path / "test" / "0.tar", "w") as tar:
        for i, row in enumerate(wanted):
            buffer = io.BytesIO()
            np.save(buffer, np.array(row))
            for suffix, data in (("png", png(i)), ("npy", buffer.getvalue())):
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    (tmp_path / "classnames.txt").write_text("ant\nbee eater\ncat\n")
    data = MultiLabelImages(path=str(tmp_path), split="test")
    assert data.labels.tolist() == wanted
    assert data.class_names == ["ant", "bee eater", "cat"]
    names = datasets.List(datasets.ClassLabel(names=NAMES))
    features = datasets.Features({"image": datasets.Image(), "labels": names})
    columns = {"image": [picture(i) for i in range(3)], "labels": [[2, 0], [], [1]]}
    listed = MultiLabelImages(dataset=datasets.Dataset.from_dict(columns, features=features))
    assert listed.labels.tolist() == wanted
    assert listed.target(0).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        MultiLabelImages(path=str(tmp_path), split="test", class_names=["a", "b"])
    with pytest.raises(ValueError, match="must hold a 0 or 1"):
        MultiLabelImages(dataset=several([[0, 1], [1]]), class_names=["a", "b"])


def several(labels: list[list[int]]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"image": [picture(i) for i in range(len(labels))], "label": labels})


def test_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        class_folders(tmp_path / name)
    first, second = (LabelledImages(path=str(tmp_path / name), split="test") for name in ("a", "b"))
    assert first.fingerprint == second.fingerprint
    picture(9).save(tmp_path / "b" / "cat" / "5.png")
    changed = LabelledImages(path=str(tmp_path / "b"), split="test")
    assert changed.fingerprint != first.fingerprint
    assert LabelledImages(dataset=rows([0, 1])).fingerprint != (LabelledImages(dataset=rows([1, 0])).fingerprint)


def rows(labels: list[int]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"image": [picture(i) for i in labels], "label": labels})


def test_a_broken_picture_is_told_with_its_place() -> None:
    encoded = datasets.Dataset.from_dict({"image": [{"bytes": b"<html>", "path": None}], "label": [0]})
    data = LabelledImages(dataset=encoded.cast_column("image", datasets.Image(decode=False)))
    with pytest.raises(
        ValueError, match=r"data set, image 0: .*; an evaluation leaves no image out: repair or remove it"
    ):
        data.picture(0)


def test_errors_say_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"labels run from 0 to 3 but there are 2 class names"):
        LabelledImages(dataset=rows([0, 3]), class_names=["a", "b"])
    data = datasets.Dataset.from_dict({"image": [picture(0)], "text": ["x"]})
    with pytest.raises(
        ValueError, match=r"no label column among image, text.*every class is a folder, and two are needed"
    ):
        LabelledImages(dataset=data)
    with pytest.raises(UnreachableData, match=r"\(1\) log in .* \(2\) name a local copy.* \(3\) train without"):
        LabelledImages(path="/nowhere")
    with pytest.raises(ValueError, match=r"has no path"):
        LabelledImages()
