"""Caption sets as they are distributed: Flickr8k, Flickr30k and COCO, from their makers and from Kaggle."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cliplab.data.captions import caption_pairs
from cliplab.data.opening import Location, open_rows

from .conftest import picture

EACH = 2  # captions of a picture


def _pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for k in range(3):
        picture(k).save(folder / f"{k}.jpg")


def _lines(line: str) -> str:
    return "".join(line.format(k=k, n=n) for k in range(3) for n in range(EACH))


def flickr8k(root: Path) -> None:
    """The makers': numbered captions, beside lists of the pictures of each split."""
    _pictures(root / "Flicker8k_Dataset")
    (root / "Flickr8k_text").mkdir()
    (root / "Flickr8k_text" / "Flickr8k.token.txt").write_text(_lines("{k}.jpg#{n}\tpicture {k}, caption {n} .\n"))
    (root / "Flickr8k_text" / "Flickr_8k.trainImages.txt").write_text("0.jpg\n1.jpg\n")
    (root / "Flickr8k_text" / "readme.txt").write_text("Please cite, if you use these:\nthe paper, and see 0.jpg\n")


def flickr8k_of_kaggle(root: Path) -> None:
    _pictures(root / "Images")
    (root / "captions.txt").write_text("image,caption\n" + _lines("{k}.jpg,picture {k}, caption {n} .\n"))


def flickr30k(root: Path) -> None:
    _pictures(root / "flickr30k-images")
    (root / "results_20130124.token").write_text(_lines("{k}.jpg#{n}\tpicture {k}, caption {n} .\n"))


def flickr30k_of_kaggle(root: Path) -> None:
    _pictures(root / "flickr30k_images")
    text = "image_name| comment_number| comment\n" + _lines("{k}.jpg| {n}| picture {k}, caption {n} .\n")
    (root / "results.csv").write_text(text)


def coco(root: Path) -> None:
    """Beside annotations without captions, and those of another split."""
    for split in ("train", "val"):
        _pictures(root / f"{split}2017")
    (root / "annotations").mkdir()
    images = [{"id": k, "file_name": f"{k}.jpg"} for k in range(3)]
    texts = [{"image_id": k, "caption": f"picture {k}, caption {n} ."} for k in range(3) for n in range(EACH)]
    for split in ("train", "val"):
        document = {"images": images, "annotations": texts if split == "val" else texts[:1]}
        (root / "annotations" / f"captions_{split}2017.json").write_text(json.dumps(document))
        boxes = {"images": images, "annotations": [{"image_id": 0, "bbox": [0, 0, 1, 1]}]}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(boxes))


@pytest.mark.parametrize("made", [flickr8k, flickr8k_of_kaggle, flickr30k, flickr30k_of_kaggle, coco])
def test_a_set_is_read_from_its_folder_with_all_captions_of_each_picture(
    made: Callable[[Path], None], tmp_path: Path
) -> None:
    made(tmp_path / "set")
    pairs = caption_pairs(path=str(tmp_path / "set"), split="val")
    assert len(pairs) == 3
    for k in range(3):
        assert pairs.target(k) == [f"picture {k}, caption {n} ." for n in range(EACH)]
        assert abs(pairs.picture(k).getpixel((0, 0))[1] - (255 - 20 * k)) < 12, "a jpg is not exact"


def test_a_text_that_is_named_is_read_as_a_table_and_prose_is_not(tmp_path: Path) -> None:
    flickr8k_of_kaggle(tmp_path / "set")
    assert len(open_rows(Location(str(tmp_path / "set" / "captions.txt"))).dataset) == 3 * EACH
    (tmp_path / "set" / "captions.txt").write_text("These are pictures.\nSee 0.jpg, and others.\nThat is all.\n")
    with pytest.raises(ValueError, match=r"captions.txt is not a folder, and its extension is unknown"):
        open_rows(Location(str(tmp_path / "set" / "captions.txt")))
