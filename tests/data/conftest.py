"""The same twelve image-caption pairs in each layout that people have."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

ROWS = 12


def picture(i: int) -> Image.Image:
    pixels = np.zeros((20, 24, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[:, : 2 * i, 2] = 20 * i, 255 - 20 * i, 255
    return Image.fromarray(pixels)


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    picture(i).save(buffer, "PNG")
    return buffer.getvalue()


def captions(i: int) -> list[str]:
    return [f"picture {i}", f"number {i}, seen again"]


def parquet_of_images(folder: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))})
    rows = {"image": [picture(i) for i in range(ROWS)], "captions": [captions(i) for i in range(ROWS)]}
    data = datasets.Dataset.from_dict(rows, features=features)
    for shard in range(4):
        data.shard(4, shard, contiguous=True).to_parquet(folder / f"train-{shard}.parquet")


def parquet_of_bytes(folder: Path) -> None:
    rows = {"jpg": [png(i) for i in range(ROWS)], "txt": ["\n".join(captions(i)) for i in range(ROWS)]}
    datasets.Dataset.from_dict(rows).to_parquet(folder / "train.parquet")


def image_folder(folder: Path) -> None:
    lines = []
    for i in range(ROWS):
        picture(i).save(folder / f"{i:02}.png")
        lines.append(json.dumps({"file_name": f"{i:02}.png", "caption": "\n".join(captions(i))}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def add_to_tar(file: Path, key: str, parts: dict[str, bytes]) -> None:
    """A sample of a webdataset: one member for each suffix."""
    with tarfile.open(file, "a") as tar:
        for suffix, data in parts.items():
            member = tarfile.TarInfo(f"{key}.{suffix}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def webdataset(folder: Path) -> None:
    for i in range(ROWS):
        parts = {"png": png(i), "txt": "\n".join(captions(i)).encode()}
        add_to_tar(folder / f"train-{2 * i // ROWS}.tar", f"{i:03}", parts)


def arrow(folder: Path) -> None:
    columns = {f"caption_{k}": [captions(i)[k] for i in range(ROWS)] for k in range(2)}
    datasets.Dataset.from_dict({"image": [picture(i) for i in range(ROWS)], **columns}).save_to_disk(folder)


def csv_of_paths(folder: Path) -> None:
    (folder / "pictures").mkdir()
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for i in range(ROWS):
            picture(i).save(folder / "pictures" / f"{i}.png")
            writer.writerow([str(folder / "pictures" / f"{i}.png"), "\n".join(captions(i))])


LAYOUTS: dict[str, Callable[[Path], None]] = {
    layout.__name__: layout
    for layout in (parquet_of_images, parquet_of_bytes, image_folder, webdataset, arrow, csv_of_paths)
}


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder by layout."""
    folders = {}
    for name, write in LAYOUTS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        write(folders[name])
    return folders
