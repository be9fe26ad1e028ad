"""Labelled pictures for zero-shot classification."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from cliplab.data.class_folders import ClassFolders, find_class_folders, names_and_notes
from cliplab.data.columns import first_present
from cliplab.data.emoji import CREDITS, STYLES, load_emoji
from cliplab.data.fingerprint import content_fingerprint
from cliplab.data.hub import UnreachableData, side_file
from cliplab.data.images import BadImage, decode_image
from cliplab.data.labels import (
    are_numbers,
    check_range,
    checked_names,
    empty_note,
    label_numbers,
    places_by_name,
    read_names,
    unused_note,
)
from cliplab.data.layout import damaged_note
from cliplab.data.library import no_progress_bars
from cliplab.data.local import DataFiles, choose_files, folder_of
from cliplab.data.opening import Location, OpenedRows, open_layout, open_rows
from cliplab.data.rows import picture_below
from cliplab.files import lines_of
from cliplab.rules import Count
from cliplab.text import listed

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "cls", "labels", "fine_label", "npy")
NAMES_FILE, TEMPLATES_FILE = "classnames.txt", "zeroshot_classification_templates.txt"  # CLIP_benchmark's layout


class LabelledImages:
    """Images with class labels, from a hub id, a local folder, Parquet, webdataset tars or class folders.

    ``class_names`` are the names in the prompts, in label order: a list, or a file with one a line. None takes those of the
    data set: CLIP_benchmark's ``classnames.txt`` beside the tars, or the names of the label column or the class folders.
    They stay None when there are none, as for plain numbers. Folders called 0, 1, 2, … are labels, not names. Where every
    class of the data is among the given names, it is found by its name. ``templates``
    are those of CLIP_benchmark's file beside the data, or None.

    ``picture(i)`` gives the i-th image unchanged, ``target(i)`` its label. ``notes`` are sentences about data that was not
    read or that changes the task: class folders without images are not candidates unless ``keep_empty_classes`` is set.

    Raises UnreachableData with three ways to continue, or ValueError when names and labels do not fit.
    """

    labels: np.ndarray

    def __init__(
        self,
        *,
        path: str | None = None,
        dataset: Any = None,
        split: str = "validation",
        name: str | None = None,
        data_files: DataFiles = None,
        image_columns: Sequence[str] = IMAGE_COLUMNS,
        label_columns: Sequence[str] = LABEL_COLUMNS,
        class_names: str | Sequence[str] | None = None,
        keep_empty_classes: bool = False,
        groups: dict[str, np.ndarray] | None = None,
        credits: Sequence[str] = (),
    ) -> None:
        self.where = where = path or "data set"
        self.root = folder_of(path) if path else None
        self.notes: list[str] = []
        given = _given_names(class_names, path)
        if dataset is None:
            folders = _class_folders(path, split, data_files, image_columns, label_columns)
            opened = self._read_folders(folders, keep_empty_classes, given) if folders else None
            dataset, self.place = opened or self._opened(path, split, name, data_files)
        else:
            self.place = lambda row: f"image {row}"
        self.image_column = first_present(dataset.column_names, image_columns, "image", where)
        try:
            self.label_column = first_present(dataset.column_names, label_columns, "label", where)
        except ValueError as error:
            raise ValueError(f"{error}. In a folder of pictures every class is a folder, and two are needed") from error
        if len(dataset) == 0:
            raise ValueError(f"{where}: split {split!r} is empty")
        if isinstance(dataset.features[self.image_column], datasets.Image):
            dataset = dataset.cast_column(self.image_column, datasets.Image(decode=False))
        self.dataset, self.credits = dataset, tuple(credits)
        templates = side_file(path, TEMPLATES_FILE) if path else None
        self.templates = None if templates is None else lines_of(templates)
        self.groups = groups or {}
        self.class_names = given or self._readable_names()
        self._read_labels()
        self.notes += empty_note(self.class_names)

    def _read_folders(
        self, folders: ClassFolders, keep_empty: bool, given: Sequence[str] | None
    ) -> tuple[Any, Callable[[int], str]]:
        """The rows of class folders. Empty folders are kept when all are named. Raises ValueError for a single class."""
        every = sorted({*folders.classes, *folders.empty})
        for_all = given is not None and (len(given) == len(every) or places_by_name(every, given) is not None)
        names, notes = names_and_notes(folders, keep_empty or for_all)
        if len(names) < 2:
            raise ValueError(
                f"{self.where}: all pictures are in one class folder, {names[0]}; a classification needs two or more"
            )
        self.notes += notes
        return folders.dataset(names), lambda row: folders.files[row]

    def _opened(
        self, path: str | None, split: str, name: str | None, data_files: DataFiles
    ) -> tuple[Any, Callable[[int], str]]:
        opened = _opened(path=path, split=split, name=name, data_files=data_files)
        self.notes += damaged_note(opened.damaged)
        self.notes += missing_shards(Path(path).expanduser(), split) if path else []
        return opened.dataset, opened.place

    def _readable_names(self) -> list[str] | None:
        names = self._column_names()
        return None if names is None or are_numbers(names) else [name.replace("_", " ") for name in names]

    def _column_names(self) -> list[str] | None:
        """The class names of the label column, which may come from folders."""
        feature = self.dataset.features[self.label_column]
        feature = getattr(feature, "feature", feature)
        return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None

    def _read_labels(self) -> None:
        cells, column_names = self.dataset[self.label_column][:], self._column_names()
        labels, words = label_numbers(cells, self.class_names, self.where)
        if words is not None and self.class_names is None:
            self.class_names = [word.replace("_", " ") for word in words]
        by_name = places_by_name(column_names or (), self.class_names or ())
        if column_names is not None and are_numbers(column_names):
            labels = np.asarray([int(name) for name in column_names])[
                labels
            ]  # folders 0, 1, 10, 2, … are sorted as text
        elif column_names is not None and self.class_names is not None and (labels >= 0).all() and by_name is not None:
            labels = by_name[labels]
        elif column_names is not None and self.class_names is not None and len(column_names) != len(self.class_names):
            raise ValueError(
                f"{self.where}: {len(self.class_names)} class names for the {len(column_names)} classes of the label "
                f"column: {listed(column_names)}; give dataset.class_names one name for each, in that order"
            )
        check_range(labels, self.class_names, self.where)
        self.notes += unused_note(labels, self.class_names)
        self.labels = labels

    def relabel(self, places: Sequence[int]) -> None:
        """Label ``i`` becomes ``places[i]``. The caller must change the names accordingly."""
        self.labels = np.asarray(places)[self.labels]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the images and the labels; see ``content_fingerprint``."""
        return content_fingerprint(self.dataset, self.image_column, self.labels.tobytes(), self._cell)

    def __len__(self) -> int:
        return len(self.dataset)

    def _cell(self, row: Mapping[str, Any]) -> Any:
        """What ``decode_image`` reads. A relative path begins at the folder of the set."""
        return picture_below(self.root, row[self.image_column])

    def picture(self, index: int) -> Image.Image:
        try:
            return decode_image(self._cell(self.dataset[index]))
        except BadImage as error:
            raise ValueError(
                f"{self.where}, {self.place(index)}: {error}; an evaluation leaves no image out: repair or remove it"
            ) from error

    def target(self, index: int) -> Any:
        return int(self.labels[index])


class MultiLabelImages(LabelledImages):
    """Images with any number of labels each: ``labels`` is bool ``[rows, classes]``. See LabelledImages.

    A cell of the label column is a list of class labels, or has a 0 or 1 for each class (CLIP_benchmark's ``npy`` files).
    """

    def _read_labels(self) -> None:
        cells = [np.asarray(cell, dtype=np.int64) for cell in self.dataset[self.label_column][:]]
        if self._column_names() is None:  # a 0 or 1 for each class
            widths = {len(cell) for cell in cells}
            if len(widths) != 1 or any((cell > 1).any() for cell in cells):
                raise ValueError(f"{self.where}: column {self.label_column} must hold a 0 or 1 for each class")
            self.labels = np.stack(cells) > 0
        else:
            self.labels = np.zeros((len(cells), len(self._column_names() or ())), dtype=bool)
            for row, cell in enumerate(cells):
                self.labels[row, cell] = True
        if self.class_names is not None and len(self.class_names) != self.labels.shape[1]:
            raise ValueError(
                f"{self.where}: {len(self.class_names)} class names for {self.labels.shape[1]} classes; "
                "give dataset.class_names in label order"
            )
        shown = np.flatnonzero(self.labels.any(0))
        self.notes += unused_note(shown, self.class_names) if len(shown) else []

    def target(self, index: int) -> Any:
        return self.labels[index]


def _given_names(class_names: str | Sequence[str] | None, path: str | None) -> list[str] | None:
    """The names of a list, or of the file that was given or is beside the data. None when there are none."""
    if class_names is not None and not isinstance(class_names, str):
        return checked_names(class_names, "dataset.class_names")
    file = class_names or (side_file(path, NAMES_FILE) if path else None)
    return None if file is None else read_names(file)


def _class_folders(
    path: str | None, split: str, data_files: DataFiles, images: Sequence[str], labels: Sequence[str]
) -> ClassFolders | None:
    """The class folders of a local folder, unless it holds tars or tables with pictures and labels."""
    folder = Path(path).expanduser() if path else None
    if folder is None or not folder.is_dir() or data_files is not None:
        return None
    try:
        reader, _ = choose_files(folder, split, None)
        if reader is not None:
            columns = open_layout(Location(str(folder), split)).columns
            if set(columns) & set(images) and set(columns) & set(labels):
                return None
    except ValueError:
        pass  # the tables are of another split, or have no pictures and labels
    return find_class_folders(folder, split)


def missing_shards(folder: Path, split: str) -> list[str]:
    """A sentence when a folder of numbered tars lacks some, by CLIP_benchmark's ``nshards.txt`` or by a gap."""
    place = folder / split if (folder / split).is_dir() else folder
    numbers = {int(tar.stem) for tar in place.glob("*.tar") if tar.stem.isdecimal()} if place.is_dir() else set()
    count_file = place / "nshards.txt"
    count = count_file.read_text(encoding="utf-8-sig").strip() if count_file.is_file() else ""
    expected = range(int(count)) if count.isdecimal() else range(min(numbers, default=0), max(numbers, default=-1) + 1)
    missing = sorted(set(expected) - numbers) if numbers else []
    if not missing:
        return []
    return [f"{len(missing)} of {len(expected)} tars are missing: {listed([f'{n}.tar' for n in missing])}"]


def _opened(*, path: str | None, split: str, name: str | None, data_files: DataFiles) -> OpenedRows:
    if not path:
        raise ValueError("the zero-shot set has no path; give a hub id or a local folder")
    try:
        return open_rows(Location(path, split, name, data_files=data_files))
    except UnreachableData as error:
        raise UnreachableData(
            f"{error}. Three ways to continue: (1) log in with a token that may read it (hf auth login, or HF_TOKEN); "
            "(2) name a local copy, zeroshot.<set>.dataset.path=<folder>; (3) train without, zeroshot=none"
        ) from error


def emoji_labelled(*, split: str, styles: Sequence[str] = STYLES) -> LabelledImages:
    """A zero-shot emoji set. The candidates are the distinct names of the set, in alphabetical order."""
    rows = load_emoji(split=split, styles=styles)
    names = sorted(set(rows["name_en"][:]))
    rank = {name: i for i, name in enumerate(names)}
    toned = np.asarray([bool(t) for t in rows["skin_tones"][:]])
    groups = {"skin_tone": toned, "no_skin_tone": ~toned}
    groups |= {style: np.asarray(rows["style"][:]) == style for style in styles}
    with no_progress_bars():
        rows = rows.add_column("label", [rank[name] for name in rows["name_en"][:]])
    return LabelledImages(dataset=rows, class_names=names, groups=groups, credits=CREDITS)


def emoji_first_words(*, held_out: bool, styles: Sequence[str] = STYLES, least: Count = 20) -> LabelledImages:
    """Emoji labelled by the first word of their English name, such as flag, woman or hand, for a linear probe.

    The classes are the first words of at least ``least`` training emoji. The rows are those of the training split, or of
    both held-out splits.
    """
    names = load_emoji(split="train", styles=styles[:1])["name_en"][:]
    counted = Counter(name.split()[0] for name in names)
    classes = sorted(word for word, count in counted.items() if count >= least)
    splits = ("compositions", "unseen_words") if held_out else ("train",)
    with no_progress_bars():
        rows = datasets.concatenate_datasets([load_emoji(split=split, styles=styles) for split in splits])
        first = [name.split()[0] for name in rows["name_en"][:]]
        rows = rows.select([i for i, word in enumerate(first) if word in classes])
        rows = rows.add_column("label", [classes.index(word) for word in first if word in classes])
    return LabelledImages(dataset=rows, class_names=classes, credits=CREDITS)
