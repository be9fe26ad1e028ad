"""A folder with one folder of images for each class: which files are read, and which are not."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from cliplab.data.library import no_progress_bars
from cliplab.data.local import ABOUT_PICTURES
from cliplab.data.splits import SPLIT_NAMES, names_of_split
from cliplab.text import listed

PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".ico", ".tga"),
)


@dataclass(frozen=True)
class ClassFolders:
    """The images of class folders. ``files`` are relative to ``root`` and sorted; ``classes`` has the class of each.

    ``empty`` are class folders without an image. ``notes`` are sentences about files that are not read.
    """

    root: Path
    files: Sequence[str]
    classes: Sequence[str]
    empty: Sequence[str]
    notes: Sequence[str]

    def dataset(self, names: Sequence[str]) -> datasets.Dataset:
        """Rows (image, label). A label is the index in ``names``."""
        index = {name: i for i, name in enumerate(names)}
        columns = {
            "image": [str(self.root / file) for file in self.files],
            "label": [index[name] for name in self.classes],
        }
        features = datasets.Features(
            {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=[*names])}
        )
        with no_progress_bars():
            return datasets.Dataset.from_dict(columns, features=features)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__"))  # such as .ipynb_checkpoints and __MACOSX


def _split_root(path: Path, split: str) -> Path | None:
    """The folder of the split, or the path itself when it has no split folders. None when it has only those of others."""
    found = {p.name.lower(): p for p in sorted(path.iterdir()) if p.is_dir() and p.name.lower() in SPLIT_NAMES}
    if not found:
        return path
    return next((found[name] for name in names_of_split(split) if name in found), None)


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each folder (relative) with its visible folders and files. Links are followed, but each folder comes once."""
    seen: set[str] = set()
    for folder, inner, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner[:] = []
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not _hidden(name))
        yield os.path.relpath(folder, root), inner, sorted(name for name in files if not _hidden(name))


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURES)


def _class_of(folder: str, one_depth: bool) -> str:
    """The class of a folder: its own name when all images are equally deep, else the first folder of its path."""
    return os.path.basename(folder) if one_depth else folder.split(os.sep)[0]


def find_class_folders(path: Path, split: str) -> ClassFolders | None:
    """The class folders of a split in a local folder. None when its images are not in class folders."""
    root = _split_root(path, split)
    if root is None or any((place / name).is_file() for name in ABOUT_PICTURES for place in (path, root)):
        return None
    folders = {folder: (inner, files) for folder, inner, files in _walk(root)}
    holding = [folder for folder, (_, files) in folders.items() if folder != "." and any(map(_is_picture, files))]
    if not holding:
        return None
    depths = {folder.count(os.sep) for folder in holding}
    one_depth = len(depths) == 1
    files = sorted(os.path.join(f, name) for f in holding for name in folders[f][1] if _is_picture(name))
    classes = [_class_of(os.path.dirname(file), one_depth) for file in files]
    above = {os.path.dirname(folder) or "." for folder in holding} if one_depth else {"."}
    beside = {name: os.path.normpath(os.path.join(f, name)) for f in above for name in folders[f][0]}
    empty = sorted(set(beside) - set(classes))
    notes = _notes(folders, files, one_depth, [beside[name] for name in sorted(set(beside) & set(classes))])
    return ClassFolders(root, files, classes, empty, notes)


def _notes(folders: Any, files: Sequence[str], one_depth: bool, class_folders: Sequence[str]) -> list[str]:
    """Sentences about files that are left out or counted for another class."""
    found = []
    loose = [name for name in folders["."][1] if _is_picture(name)]
    if loose:
        found.append(f"{len(loose)} pictures beside the class folders are left out: {listed(loose)}")
    nested = [] if one_depth else [file for file in files if file.count(os.sep) > 1]
    if nested:
        inner = sorted({os.path.dirname(file) for file in nested})
        found.append(f"{len(nested)} pictures in folders within class folders count for the outer one: {listed(inner)}")
    others = [
        name
        for folder, (_, names) in folders.items()
        if any(folder == c or folder.startswith(c + os.sep) for c in class_folders)
        for name in names
        if not _is_picture(name) and name != "Thumbs.db"
    ]
    if others:
        kinds = Counter(os.path.splitext(name)[1].lower() or "without an extension" for name in others)
        found.append(
            f"{len(others)} files in class folders are left out, since their extensions are not those of pictures: "
            f"{', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}"
        )
    return found


def names_and_notes(found: ClassFolders, keep_empty: bool) -> tuple[list[str], list[str]]:
    """The sorted names of the classes, including empty ones when they are kept, and notes about those that are not."""
    present = sorted(set(found.classes))
    names = sorted({*present, *found.empty}) if keep_empty else present
    notes = list(found.notes)
    if found.empty and not keep_empty:
        notes.append(
            f"{len(found.empty)} of {len(found.empty) + len(present)} class folders hold no picture and are not candidates, "
            f"which makes the task easier: {listed(found.empty)}; put pictures there, or set dataset.keep_empty_classes=true"
        )
    return names, notes
