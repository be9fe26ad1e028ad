"""Reads labels and class names in the forms that occur in data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cliplab.text import listed


def read_names(file: str | Path) -> list[str]:
    """One name a line, in label order. An empty line is an empty name: the names below it must keep their number."""
    path = Path(file).expanduser()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); name a file, or list the names"
        raise ValueError(f"dataset.class_names: {file} {reason}") from error
    while lines and not lines[-1]:
        lines.pop()
    return lines


def empty_note(names: Sequence[str] | None) -> list[str]:
    """A sentence about classes with an empty name, such as one of CLEVR's distances in CLIP_benchmark."""
    empty = [str(place) for place, name in enumerate(names or ()) if not name]
    return [f"class {', '.join(empty)} has an empty name; its prompts are the templates alone"] if empty else []


def checked_names(names: Sequence[Any], key: str) -> list[str]:
    """Raises ValueError for a name that is empty or not a string."""
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"{key}: name {place} is {name!r}, which is not a string; put it in quotes")
        if not name.strip():
            raise ValueError(f"{key}: name {place} is empty; every class needs a name for its prompts")
    return list(names)


def are_numbers(names: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in names)


def label_numbers(cells: Sequence[Any], names: Sequence[str] | None, where: str) -> tuple[np.ndarray, list[str] | None]:
    """Labels as int64 ``[rows]``, and the distinct words when the cells are words.

    Words are looked up in ``names``; without names they are numbered in alphabetical order. Raises ValueError, naming the
    row, for a cell that is not a label.
    """
    cells = [cell.decode("utf8", errors="replace") if isinstance(cell, bytes) else cell for cell in cells]
    words = [str(cell).strip() for cell in cells if isinstance(cell, str)]
    if words and not all(_is_integer(word) for word in words):
        return _looked_up(cells, names, where)
    numbers = []
    for row, cell in enumerate(cells):
        number = _number(cell)
        if number is None:
            raise ValueError(
                f"{where}: the label of row {row} is {cell!r}; labels are whole numbers from 0 on, or names"
            )
        numbers.append(number)
    return np.asarray(numbers, dtype=np.int64), None


def _is_integer(word: str) -> bool:
    return word.removeprefix("-").isdecimal()


def _number(cell: Any) -> int | None:
    if isinstance(cell, str):
        return int(cell.strip()) if _is_integer(cell.strip()) else None
    if isinstance(cell, list | tuple | np.ndarray):
        return _number(cell[0]) if np.ndim(cell) == 1 and len(cell) == 1 else None
    if isinstance(cell, int | float | np.number) and float(cell).is_integer():
        return int(cell)
    return None


def _looked_up(cells: Sequence[Any], names: Sequence[str] | None, where: str) -> tuple[np.ndarray, list[str] | None]:
    for row, cell in enumerate(cells):
        if not isinstance(cell, str) or not cell.strip():
            raise ValueError(f"{where}: the label of row {row} is {cell!r} where others are names")
    words = [cell.strip() for cell in cells]
    distinct = sorted(set(words))
    if names is None or (len(names) == len(distinct) and not set(distinct) & set(names)):
        # ``names`` are other words for the same classes, in the same order
        number = {word: i for i, word in enumerate(distinct)}
        return np.asarray([number[word] for word in words]), distinct
    number = {name: i for i, name in enumerate(names)}
    missing = [word for word in distinct if word not in number]
    if missing:
        raise ValueError(
            f"{where}: {len(missing)} labels are not among the {len(names)} class names: {listed(missing)}; name them in "
            "dataset.class_names as the label column does, or set it to null to take the names of the column"
        )
    return np.asarray([number[word] for word in words]), None


def places_by_name(words: Sequence[str], names: Sequence[str]) -> np.ndarray | None:
    """The place in ``names`` of each class of a label column or a class folder, when every one is named there: whatever the
    order, and beside other names. None when the names are other words, which belong to the classes in their order.

    An underscore is a space. Names that occur twice say nothing, as in ImageNet, where two classes are cranes.
    """
    plain, wanted = ([word.replace("_", " ").strip() for word in side] for side in (names, words))
    if len(set(plain)) < len(plain) or len(set(wanted)) < len(wanted) or not set(wanted) <= set(plain):
        return None
    return np.asarray([plain.index(word) for word in wanted], dtype=np.int64)


def check_range(labels: np.ndarray, names: Sequence[str] | None, where: str) -> None:
    """Raises ValueError for labels outside the range of the classes."""
    if labels.min() < 0:
        unlabelled = int((labels < 0).sum())
        raise ValueError(
            f"{where}: {unlabelled} of {len(labels)} labels are below 0, which marks pictures without a label; "
            "choose a labelled split with dataset.split"
        )
    if names is not None and labels.max() >= len(names):
        raise ValueError(
            f"{where}: labels run from {labels.min()} to {labels.max()} but there are {len(names)} class names; give "
            "dataset.class_names in label order"
        )


def unused_note(labels: np.ndarray, names: Sequence[str] | None) -> list[str]:
    """A sentence about named classes that have no image."""
    if names is None:
        return []
    absent = np.setdiff1d(np.arange(len(names)), np.unique(labels))
    if not len(absent):
        return []
    return [
        f"{len(absent)} of the {len(names)} named classes have no picture and stay candidates: "
        f"{listed([names[i] for i in absent])}"
    ]
