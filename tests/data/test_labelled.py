"""Labelled sets in the layouts of the field, and labels that do not fit their names."""

import io
import tarfile
from pathlib import Path

import datasets
import pytest

from cliplab.data.hub import UnreachableData
from cliplab.data.labelled import LabelledImages

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


@pytest.mark.parametrize("layout", [class_folders, parquet, webdataset])
def test_layout(layout, tmp_path: Path) -> None:
    data = LabelledImages(path=str(tmp_path), image_size=16, **layout(tmp_path))
    assert data.class_names == ["ant", "bee eater", "cat"]
    assert sorted(data.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    image, label = data[0]
    assert image.shape == (3, 16, 16)
    red = int(data.picture(0).getpixel((0, 0))[0]) // 20
    assert label == red % 3


def rows(labels: list[int]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"image": [picture(i) for i in labels], "label": labels})


def test_errors_say_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"labels run from 0 to 3 but there are 2 class names"):
        LabelledImages(dataset=rows([0, 3]), image_size=16, class_names=["a", "b"])
    with pytest.raises(ValueError, match=r"labels carry no names"):
        LabelledImages(dataset=rows([0, 1]), image_size=16)
    data = datasets.Dataset.from_dict({"image": [picture(0)], "text": ["x"]})
    with pytest.raises(ValueError, match=r"no label column among image, text"):
        LabelledImages(dataset=data, image_size=16)
    with pytest.raises(UnreachableData, match=r"\(1\) log in .* \(2\) name a local copy.* \(3\) train without"):
        LabelledImages(path="/nowhere", image_size=16)
    with pytest.raises(ValueError, match=r"has no path"):
        LabelledImages(image_size=16)
