"""Reads what a user gives: images in many forms, a query, labels."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cliplab.embedding.arrays import is_array, pictures_of

SUFFIXES = tuple(sorted({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}))


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """All image files below a folder, sorted. Raises ValueError when there is no such folder or no image."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; name a folder of images")
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise ValueError(f"{root}: there are no images in this folder; looked for {', '.join(SUFFIXES)}")
    return found


def query_file(query: Any) -> Path | None:
    """The image file that a query names: a path, or a string with the extension of one. None for any other query.

    Raises ValueError when there is no file of that name, and for several queries.
    """
    if isinstance(query, list | tuple | Mapping):
        raise ValueError(f"query is a {type(query).__name__} of {len(query)}; give one sentence or one image")
    if not isinstance(query, os.PathLike) and not (isinstance(query, str) and query.lower().endswith(SUFFIXES)):
        return None
    path = Path(query).expanduser()
    if not path.is_file():
        raise ValueError(f"query {query!s} looks like an image file, but there is no such file")
    return path


def as_list(images: Any) -> Sequence[Any]:
    """A folder's pictures, one path or picture in a list, or the sequence itself."""
    if isinstance(images, str | os.PathLike):
        path = Path(images).expanduser()
        return list(list_images(path)) if path.is_dir() else [path]
    if isinstance(images, np.ndarray) and images.dtype.kind in "OUS":
        return images.ravel().tolist()  # paths or pictures
    if is_array(images):
        return pictures_of(images)
    if isinstance(images, bytes | Image.Image | dict):
        return [images]
    if not isinstance(images, Iterable):
        raise ValueError(
            f"images {images!r} must be a folder, a picture, or a list of paths, pictures, bytes or arrays"
        )
    images = images if isinstance(images, Sequence) else list(images)
    if images and is_array(images[0]):  # raises for a wrong shape before anything is embedded
        return [one for image in images for one in (_one_picture(image) if is_array(image) else [image])]
    return images


def _one_picture(array: Any) -> list[Image.Image]:
    found = pictures_of(array)
    if len(found) != 1:
        raise ValueError(
            f"images: a list must hold single pictures, but an item is a batch of shape {list(array.shape)}"
        )
    return found


def _strings(values: Any, what: str, wanted: str) -> list[str]:
    """One string, or several, as a list of strings. Raises ValueError for another type; ``what`` names one of them."""
    listed = [values] if isinstance(values, str) else values
    if isinstance(listed, Mapping | bytes) or not isinstance(listed, Iterable):
        raise ValueError(f"{what}s {values!r} must be a list of {wanted}")
    strings = list(listed)
    for place, value in enumerate(strings):
        if not isinstance(value, str):
            raise ValueError(f"{what} {place} is {value!r}, of type {type(value).__name__}; {what}s are strings")
    return [str(value) for value in strings]


def given_texts(texts: Any) -> list[str]:
    """Raises ValueError for an empty list or another type."""
    strings = _strings(texts, "text", "sentences")
    if not strings:
        raise ValueError("no texts were given")
    return strings


def given_labels(labels: Any) -> list[str]:
    """Labels without spaces around them. Raises ValueError for an empty list, a repeated label or another type."""
    names = [name.strip() for name in _strings(labels, "label", "names")]
    if not names or not all(names):
        raise ValueError("labels must be one or more names, none of them empty")
    twice = [label for label, n in Counter(names).items() if n > 1]
    if twice:
        raise ValueError(f"label {twice[0]!r} is given twice")
    return names
