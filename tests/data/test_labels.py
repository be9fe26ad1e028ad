"""Sets that are read in part, and labels as people write them: what is left out is noted, what cannot be read is named."""

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from cliplab.data.captions import caption_pairs
from cliplab.data.labelled import LabelledImages, MultiLabelImages

from .conftest import picture, png

Change = Callable[[Path], Any]


def add(place: str, number: int = 1) -> Change:
    """A picture at ``place``."""

    def change(root: Path) -> None:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(root / place)

    return change


def folder(place: str) -> Change:
    return lambda root: (root / place).mkdir(parents=True)


def write(place: str, text: str = "x") -> Change:
    def change(root: Path) -> None:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)

    return change


def link(root: Path) -> None:
    elsewhere = root.parent / f"{root.name} elsewhere"
    elsewhere.mkdir()
    picture(3).save(elsewhere / "1.png")
    (root / "dog").symlink_to(elsewhere, target_is_directory=True)


def link_round(root: Path) -> None:
    (root / "cat" / "round").symlink_to(root, target_is_directory=True)


def three_classes(root: Path) -> Path:
    for i, name in enumerate(("ant", "bee", "cat")):
        add(f"{name}/{i}.png", i)(root)
    return root


@pytest.mark.parametrize(
    ("change", "names", "pictures", "message"),
    [
        (lambda root: None, "ant bee cat", 3, ""),
        (folder("dog"), "ant bee cat", 3, "1 of 4 class folders hold no picture and are not candidates.*: dog;"),
        (write("dog/a.heic"), "ant bee cat", 3, "1 of 4 class folders hold no picture"),
        (write("cat/a.heic"), "ant bee cat", 3, "1 files in class folders are left out.*: 1 .heic"),
        (write("cat/notes.txt"), "ant bee cat", 3, "1 files in class folders are left out.*: 1 .txt"),
        (write("labels.csv", "a,b"), "ant bee cat", 3, ""),
        (write("readme.json", "{}"), "ant bee cat", 3, ""),
        (write("cat/.DS_Store"), "ant bee cat", 3, ""),
        (add(".ipynb_checkpoints/0.png"), "ant bee cat", 3, ""),
        (add("__MACOSX/ant/0.png"), "ant bee cat", 3, ""),
        (add("cat/.ipynb_checkpoints/0.png"), "ant bee cat", 3, ""),
        (add("cat/more/9.png"), "ant bee cat", 4, "1 pictures in folders within class folders count for the outer one"),
        (add("stray.png"), "ant bee cat", 3, "1 pictures beside the class folders are left out: stray.png"),
        (add("DOG/9.PNG"), "DOG ant bee cat", 4, ""),
        (link, "ant bee cat dog", 4, ""),
        (link_round, "ant bee cat", 3, ""),
    ],
)
def test_what_a_folder_of_classes_holds(
    change: Change, names: str, pictures: int, message: str, tmp_path: Path
) -> None:
    root = three_classes(tmp_path / "set")
    change(root)
    data = LabelledImages(path=str(root), split="test")
    assert data.class_names == names.split()
    assert len(data) == pictures
    assert [(root / data.place(i)).read_bytes() for i in range(pictures)] == [
        Path(row["image"]["path"]).read_bytes() for row in data.dataset
    ]
    if message:
        assert len(data.notes) == 1

        assert re.search(message, data.notes[0])
    else:
        assert data.notes == []


def test_an_empty_class_folder_stays_a_candidate_when_asked_or_named(tmp_path: Path) -> None:
    """Between others: names in label order must not move up by one."""
    root = three_classes(tmp_path / "set")
    folder("boa")(root)
    kept = LabelledImages(path=str(root), split="test", keep_empty_classes=True)
    assert kept.class_names == ["ant", "bee", "boa", "cat"]
    assert kept.labels.tolist() == [0, 1, 3]
    assert kept.notes == ["1 of the 4 named classes have no picture and stay candidates: boa"]
    four = ["an ant", "a bee", "a boa", "a cat"]
    assert LabelledImages(path=str(root), split="test", class_names=four).labels.tolist() == [0, 1, 3]
    three = [four[i] for i in (0, 1, 3)]
    assert LabelledImages(path=str(root), split="test", class_names=three).labels.tolist() == [0, 1, 2]
    for names in (four[:2], [*four, "more"]):
        with pytest.raises(ValueError, match=rf"{len(names)} class names for the 3 classes of the label column: ant"):
            LabelledImages(path=str(root), split="test", class_names=names)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (["cat", "ant", "bee"], [1, 2, 0]),  # another order
        (["fox", "cat", "bee", "ant"], [3, 2, 1]),  # a class without pictures
        (["an ant", "a bee", "a cat"], [0, 1, 2]),  # other words
        (["ant", "ant", "cat"], [0, 1, 2]),  # a name that says nothing
    ],
)
def test_class_folders_are_found_by_their_names_where_all_are_named(
    given: list[str], labels: list[int], tmp_path: Path
) -> None:
    data = LabelledImages(path=str(three_classes(tmp_path / "set")), split="test", class_names=given)
    assert data.labels.tolist() == labels
    assert data.class_names == given
    assert data.notes == (
        ["1 of the 4 named classes have no picture and stay candidates: fox"] if "fox" in given else []
    )


def test_an_underscore_is_a_space_and_an_empty_folder_that_is_named_stays(tmp_path: Path) -> None:
    root = three_classes(tmp_path / "set")
    folder("hot_dog")(root)
    data = LabelledImages(path=str(root), split="test", class_names=["hot dog", "cat", "bee", "ant", "fox"])
    assert data.labels.tolist() == [3, 2, 1]


def test_one_class_folder_is_told(tmp_path: Path) -> None:
    add("cat/0.png")(tmp_path)
    with pytest.raises(ValueError, match="all pictures are in one class folder, cat; a classification needs two"):
        LabelledImages(path=str(tmp_path), split="test")


def test_numbered_folders_keep_their_numbers_whichever_are_empty_or_gone(tmp_path: Path) -> None:
    for place in ("001/1.png", "002/2.png", "004/4.png"):
        add(place)(tmp_path)
    for gone in (False, True):
        data = LabelledImages(path=str(tmp_path), split="test", class_names=[f"bird {i}" for i in range(5)])
        assert data.labels.tolist() == [1, 2, 4]
        if not gone:
            (tmp_path / "003").mkdir()


def test_pictures_all_two_deep_have_the_class_of_their_own_folder(tmp_path: Path) -> None:
    for place in ("animals/cat/1.png", "animals/dog/2.png", "plants/rose/3.png"):
        add(place)(tmp_path)
    folder("plants/oak")(tmp_path)
    data = LabelledImages(path=str(tmp_path), split="test")
    assert data.class_names == ["cat", "dog", "rose"]
    assert "oak" in data.notes[0]


def test_a_split_has_its_own_folder(tmp_path: Path) -> None:
    for place in ("train/a/1.png", "train/b/2.png", "train/c/5.png", "val/a/3.png", "val/b/4.png"):
        add(place)(tmp_path)
    (tmp_path / "val" / "c").mkdir()
    data = LabelledImages(path=str(tmp_path), split="validation")
    assert (data.class_names, len(data)) == (["a", "b"], 2)
    assert "1 of 3 class folders hold no picture" in data.notes[0]


def table(labels: list[Any], **columns: Any) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"image": [picture(i) for i in range(len(labels))], "label": labels, **columns})


@pytest.mark.parametrize(
    ("labels", "given", "expected", "names"),
    [
        (["cat", "ant", "cat"], None, [1, 0, 1], ["ant", "cat"]),
        (["sea_lion", "ant"], None, [1, 0], ["ant", "sea lion"]),
        (["cat", "ant"], ["cat", "dog", "ant"], [0, 2], ["cat", "dog", "ant"]),
        (["cat", "ant"], ["an ant", "a cat"], [1, 0], ["an ant", "a cat"]),
        (["1", "0", "2"], ["a", "b", "c"], [1, 0, 2], ["a", "b", "c"]),
        ([1.0, 0.0], ["a", "b"], [1, 0], ["a", "b"]),
        ([True, False], ["a", "b"], [1, 0], ["a", "b"]),
        ([[1], [0]], ["a", "b"], [1, 0], ["a", "b"]),
    ],
)
def test_labels_as_people_write_them(labels: list[Any], given: Any, expected: list[int], names: list[str]) -> None:
    data = LabelledImages(dataset=table(labels), class_names=given)
    assert data.labels.tolist() == expected
    assert data.class_names == names


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        ([0, None], ["a", "b"], "the label of row 1 is None"),
        ([0.5, 1.0], ["a", "b"], "the label of row 0 is 0.5"),
        ([[0, 1], [1, 0]], ["a", "b"], r"the label of row 0 is \[0, 1\]"),
        (["ant", None], ["ant", "b"], "the label of row 1 is None where others are names"),
        ([-1, -1, 0], ["a", "b"], "2 of 3 labels are below 0.*choose a labelled split"),
        ([0, 5], ["a", "b"], "labels run from 0 to 5 but there are 2 class names"),
        (["cat", "ant"], ["cat", "dog", "bee"], "1 labels are not among the 3 class names: ant"),
        ([0, 1], ["a", 1], "name 1 is 1, which is not a string"),
        ([0, 1], ["a", True], "name 1 is True, which is not a string"),
        ([0, 1], ["a", " "], "name 1 is empty"),
        ([0, 1], "/nowhere/names.txt", "names.txt cannot be read"),
    ],
)
def test_labels_and_names_that_do_not_fit(labels: list[Any], given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelledImages(dataset=table(labels), class_names=given)


def test_names_without_pictures_are_told(tmp_path: Path) -> None:
    data = LabelledImages(dataset=table([0, 2]), class_names=["a", "b", "c", "d"])
    assert data.notes == ["2 of the 4 named classes have no picture and stay candidates: b, d"]
    several = MultiLabelImages(dataset=table([[1, 0, 0], [0, 0, 1]]), class_names=["a", "b", "c"])
    assert several.notes == ["1 of the 3 named classes have no picture and stay candidates: b"]
    names = tmp_path / "names.txt"
    names.write_text("a\n\nb\n")
    data = LabelledImages(dataset=table([0, 1, 2]), class_names=str(names))
    assert data.class_names == ["a", "", "b"]
    assert data.notes == ["class 1 has an empty name; its prompts are the templates alone"]
    names.write_text("\ufeffa\nb\n\n")
    assert LabelledImages(dataset=table([0, 1]), class_names=str(names)).class_names == ["a", "b"]


def tars(root: Path, numbers: list[int]) -> None:

    (root / "test").mkdir(parents=True)
    for number in numbers:
        with tarfile.open(root / "test" / f"{number}.tar", "w") as tar:
            for suffix, data in (("png", png(number)), ("cls", str(number % 2).encode())):
                member = tarfile.TarInfo(f"s{number}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    (root / "classnames.txt").write_text("ant\nbee\n")


def test_missing_and_damaged_tars_are_told(tmp_path: Path) -> None:
    tars(tmp_path / "a", [0, 1, 3])
    assert LabelledImages(path=str(tmp_path / "a"), split="test").notes == ["1 of 4 tars are missing: 2.tar"]
    (tmp_path / "a" / "test" / "nshards.txt").write_text("6")
    (note,) = LabelledImages(path=str(tmp_path / "a"), split="test").notes
    assert note == "3 of 6 tars are missing: 2.tar, 4.tar, 5.tar"
    tars(tmp_path / "b", [0, 1])
    whole = (tmp_path / "b" / "test" / "1.tar").read_bytes()
    tars(tmp_path / "c", [0, 1, 2])
    (tmp_path / "c" / "test" / "2.tar").write_bytes(whole[:600])
    (note,) = LabelledImages(path=str(tmp_path / "c"), split="test").notes
    assert "damaged and left out: test/2.tar" in note


def test_captions_read_in_part_are_told(tmp_path: Path) -> None:
    rows = {"image": [picture(i) for i in range(4)], "caption": ["a", "b", "c", "d"]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "test.parquet")
    assert caption_pairs(path=str(tmp_path)).notes == []
    part = caption_pairs(path=str(tmp_path), limit=2)
    assert (len(part), part.notes) == (2, ["only the first rows are read, at most 2 (dataset.limit)"])
