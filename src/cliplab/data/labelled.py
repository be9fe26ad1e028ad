"""Labelled pictures for zero-shot classification."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from cliplab.data.columns import first_present
from cliplab.data.emoji import CREDITS, STYLES, load_emoji
from cliplab.data.fingerprint import content_fingerprint
from cliplab.data.hub import UnreachableData, side_file
from cliplab.data.images import BadImage, decode_image
from cliplab.data.library import no_progress_bars
from cliplab.data.local import DataFiles
from cliplab.data.opening import open_dataset

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "cls", "labels", "fine_label", "npy")
NAMES_FILE, TEMPLATES_FILE = "classnames.txt", "zeroshot_classification_templates.txt"  # CLIP_benchmark's layout


def _read_lines(file: str | Path) -> list[str]:
    lines = Path(file).expanduser().read_text(encoding="utf8").splitlines()
    return [line.strip() for line in lines if line.strip()]


class LabelledImages:
    """Pictures with class labels from a hub id, a local folder, Parquet, webdataset tars or class folders.

    ``class_names`` are the names that stand in the prompts, in label order: a list, a file with one a line, or null for
    the data set's own: CLIP_benchmark's ``classnames.txt`` beside the tars, or the names of the label column or the class
    folders. They stay None when there are none, as for bare numbers; folders called 0, 1, 2, … are labels, not names.
    ``templates`` are the data set's own, from CLIP_benchmark's file, or None.

    ``picture(i)`` gives the i-th picture as it is, ``target(i)`` its label. Raises UnreachableData with the three ways
    out, or ValueError when names and labels do not fit.
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
        groups: dict[str, np.ndarray] | None = None,
        credits: Sequence[str] = (),
    ) -> None:
        if dataset is None:
            dataset = _opened(path=path, split=split, name=name, data_files=data_files)
        self.where = where = path or "data set"
        self.image_column = first_present(dataset.column_names, image_columns, "image", where)
        try:
            self.label_column = first_present(dataset.column_names, label_columns, "label", where)
        except ValueError as error:
            raise ValueError(f"{error}. In a folder of pictures every class is a folder, and it takes two") from error
        if len(dataset) == 0:
            raise ValueError(f"{where}: split {split!r} is empty")
        if isinstance(dataset.features[self.image_column], datasets.Image):
            dataset = dataset.cast_column(self.image_column, datasets.Image(decode=False))
        self.dataset, self.credits = dataset, tuple(credits)
        templates = side_file(path, TEMPLATES_FILE) if path else None
        self.templates = None if templates is None else _read_lines(templates)
        self.groups = groups or {}
        self.class_names = self._names(class_names, path)
        self._read_labels()

    def _names(self, given: str | Sequence[str] | None, path: str | None) -> list[str] | None:
        if isinstance(given, str):
            return _read_lines(given)
        if given is not None:
            return list(given)
        file = side_file(path, NAMES_FILE) if path else None
        if file is not None:
            return _read_lines(file)
        names = self._own_names()
        return None if names is None or _numbers(names) else [name.replace("_", " ") for name in names]

    def _own_names(self) -> list[str] | None:
        """The label column's names: of its classes, or of the folders."""
        feature = self.dataset.features[self.label_column]
        feature = getattr(feature, "feature", feature)
        return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None

    def _read_labels(self) -> None:
        labels = np.asarray([int(x) for x in self.dataset[self.label_column][:]])
        own = self._own_names()
        if own is not None and _numbers(own):
            labels = np.asarray([int(name) for name in own])[labels]  # folders 0, 1, 10, 2, … are sorted as text
        if labels.min() < 0 or (self.class_names is not None and labels.max() >= len(self.class_names)):
            raise ValueError(
                f"{self.where}: labels run from {labels.min()} to {labels.max()} but there are "
                f"{len(self.class_names or ())} class names; give dataset.class_names in label order"
            )
        self.labels = labels

    def relabel(self, places: Sequence[int]) -> None:
        """Label ``i`` becomes ``places[i]``; the names that fit are the caller's business."""
        self.labels = np.asarray(places)[self.labels]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the pictures and the labels; see ``content_fingerprint``."""
        return content_fingerprint(self.dataset, self.image_column, self.labels.tobytes())

    def __len__(self) -> int:
        return len(self.dataset)

    def picture(self, index: int) -> Image.Image:
        try:
            return decode_image(self.dataset[index][self.image_column])
        except BadImage as error:
            raise ValueError(
                f"{self.where}, image {index}: {error}; an evaluation leaves no image out: mend or remove it"
            ) from error

    def target(self, index: int) -> Any:
        return int(self.labels[index])


class MultiLabelImages(LabelledImages):
    """Pictures with any number of labels each, ``labels`` bool ``[rows, classes]``; see LabelledImages.

    A cell of the label column lists classes (a list of class labels), or holds a 0 or 1 for each (CLIP_benchmark's
    ``npy`` files).
    """

    def _read_labels(self) -> None:
        cells = [np.asarray(cell, dtype=np.int64) for cell in self.dataset[self.label_column][:]]
        if self._own_names() is None:  # a 0 or 1 for each class
            widths = {len(cell) for cell in cells}
            if len(widths) != 1 or any((cell > 1).any() for cell in cells):
                raise ValueError(f"{self.where}: column {self.label_column} must hold a 0 or 1 for each class")
            self.labels = np.stack(cells) > 0
        else:
            self.labels = np.zeros((len(cells), len(self._own_names() or ())), dtype=bool)
            for row, cell in enumerate(cells):
                self.labels[row, cell] = True
        if self.class_names is not None and len(self.class_names) != self.labels.shape[1]:
            raise ValueError(
                f"{self.where}: {len(self.class_names)} class names for {self.labels.shape[1]} classes; "
                "give dataset.class_names in label order"
            )

    def target(self, index: int) -> Any:
        return self.labels[index]


def _numbers(names: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in names)


def _opened(*, path: str | None, **where: Any) -> Any:
    if not path:
        raise ValueError("the zero-shot set has no path; give a hub id or a local folder")
    try:
        return open_dataset(path=path, **where)
    except UnreachableData as error:
        raise UnreachableData(
            f"{error}. Three ways on: (1) log in with a token that may read it (hf auth login, or HF_TOKEN); "
            "(2) name a local copy, zeroshot.<set>.dataset.path=<folder>; (3) train without, zeroshot=none"
        ) from error


def emoji_labelled(*, split: str, styles: Sequence[str] = STYLES) -> LabelledImages:
    """A zero-shot emoji set: the candidates are the set's own distinct names, in alphabetical order."""
    rows = load_emoji(split=split, styles=styles)
    names = sorted(set(rows["name_en"][:]))
    rank = {name: i for i, name in enumerate(names)}
    toned = np.asarray([bool(t) for t in rows["skin_tones"][:]])
    groups = {"skin_tone": toned, "no_skin_tone": ~toned}
    groups |= {style: np.asarray(rows["style"][:]) == style for style in styles}
    with no_progress_bars():
        rows = rows.add_column("label", [rank[name] for name in rows["name_en"][:]])
    return LabelledImages(dataset=rows, class_names=names, groups=groups, credits=CREDITS)
