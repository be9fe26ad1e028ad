"""Labelled pictures for zero-shot classification."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cliplab.data.emoji import CREDITS, STYLES, load_emoji
from cliplab.data.hub import UnreachableData, first_present, no_progress_bars, open_dataset
from cliplab.data.images import decode_image
from cliplab.data.transforms import EvalTransform


class LabelledImages(Dataset):
    """Pictures with class labels from a hub id, a local folder, Parquet, webdataset tars or class folders.

    ``class_names`` are the names that stand in the prompts, in label order: a list, a file with one a line, or null for
    the data set's own. ``[i]`` gives (uint8 ``[3, size, size]``, label). Raises UnreachableData with the three ways out,
    or ValueError when names and labels do not fit.
    """

    def __init__(
        self,
        *,
        image_size: int,
        path: str | None = None,
        dataset: Any = None,
        split: str = "validation",
        name: str | None = None,
        data_files: str | Sequence[str] | None = None,
        image_columns: Sequence[str] = ("image", "img", "jpg", "jpeg", "png", "webp"),
        label_columns: Sequence[str] = ("label", "cls", "labels", "fine_label"),
        class_names: str | Sequence[str] | None = None,
        groups: dict[str, np.ndarray] | None = None,
        credits: Sequence[str] = (),
    ) -> None:
        if dataset is None:
            if not path:
                raise ValueError("the zero-shot set has no path; give a hub id or a local folder")
            try:
                dataset = open_dataset(path=path, split=split, name=name, data_files=data_files)
            except UnreachableData as error:
                raise UnreachableData(
                    f"{error}. Three ways on: (1) log in with a token that may read it (hf auth login, or HF_TOKEN); "
                    "(2) name a local copy, zeroshot.<set>.dataset.path=<folder>; (3) train without, zeroshot=none"
                ) from error
        where = path or "data set"
        self.image_column = first_present(dataset.column_names, image_columns, "image", where)
        self.label_column = first_present(dataset.column_names, label_columns, "label", where)
        feature = dataset.features[self.label_column]
        if isinstance(dataset.features[self.image_column], datasets.Image):
            dataset = dataset.cast_column(self.image_column, datasets.Image(decode=False))
        self.dataset, self.transform, self.credits = dataset, EvalTransform(image_size), tuple(credits)
        self.labels = np.asarray([int(x) for x in dataset[self.label_column]])
        self.class_names = self._names(class_names, feature, where)
        if len(self.labels) == 0:
            raise ValueError(f"{where}: split {split!r} is empty")
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            raise ValueError(
                f"{where}: labels run from {self.labels.min()} to {self.labels.max()} but there are "
                f"{len(self.class_names)} class names; give dataset.class_names in label order"
            )
        self.groups = groups or {}

    @staticmethod
    def _names(class_names: str | Sequence[str] | None, feature: Any, where: str) -> list[str]:
        if isinstance(class_names, str):
            return [line for line in Path(class_names).read_text(encoding="utf8").splitlines() if line.strip()]
        if class_names is not None:
            return list(class_names)
        if isinstance(feature, datasets.ClassLabel):
            return [name.replace("_", " ") for name in feature.names]
        raise ValueError(f"{where}: labels carry no names; set dataset.class_names to a list or a file")

    @property
    def fingerprint(self) -> str:
        """Changes with the data."""
        facts = f"{self.dataset._fingerprint} {len(self.dataset)}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.dataset)

    def picture(self, index: int) -> Image.Image:
        return decode_image(self.dataset[index][self.image_column])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.picture(index)), int(self.labels[index])


def emoji_labelled(*, split: str, image_size: int, styles: Sequence[str] = STYLES) -> LabelledImages:
    """A zero-shot emoji set: the candidates are the set's own distinct names, in alphabetical order."""
    rows = load_emoji(split=split, styles=styles)
    names = sorted(set(rows["name_en"]))
    rank = {name: i for i, name in enumerate(names)}
    toned = np.asarray([bool(t) for t in rows["skin_tones"]])
    groups = {"skin_tone": toned, "no_skin_tone": ~toned}
    groups |= {style: np.asarray(rows["style"]) == style for style in styles}
    fingerprint = rows._fingerprint
    with no_progress_bars():
        rows = rows.add_column("label", [rank[name] for name in rows["name_en"]])
    rows._fingerprint = fingerprint
    return LabelledImages(image_size=image_size, dataset=rows, class_names=names, groups=groups, credits=CREDITS)
