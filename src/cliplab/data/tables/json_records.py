"""Reads records from JSON: one a line, a list, or the formats of COCO and others for captions."""

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cliplab.data.tables.delimited import is_picture_path
from cliplab.data.tables.names import CAPTION_NAMES, is_caption_name, is_image_name
from cliplab.data.tables.text import open_text

Record = tuple[str, dict[str, Any]]  # its place in the file, in words, and its values
_LOOKED_AT = 2**16  # bytes at each end
_OF_PAIRS = re.compile(rb'"(%s)"|\.(jpe?g|png|webp)"' % "|".join(CAPTION_NAMES).encode())
_SHOWN = 8  # keys that an error names


def _named(value: Any) -> dict[str, Any]:
    """A record by name. In a list of two or more items, one is the image and another the caption."""
    if isinstance(value, Mapping):
        return {str(key): inner for key, inner in value.items()}
    if isinstance(value, list) and len(value) >= 2:
        image = next((k for k, cell in enumerate(value) if isinstance(cell, str) and is_picture_path(cell)), 0)
        caption = next(k for k in range(len(value)) if k != image)
        names = {image: "image", caption: "caption"}
        return {names.get(k, f"column_{k}"): cell for k, cell in enumerate(value)}
    return {}


def wrong_line(file: Path) -> str:
    """A message about the first invalid line of a file of JSON lines; "" when all are valid."""
    with open_text(file) as lines:
        for number, line in enumerate(lines, 1):
            try:
                json.loads(line if line.strip() else "{}")
            except ValueError as error:
                return f"line {number} is not JSON ({error}); repair or remove it"
    return ""


def _of_lines(file: Path, encoding: str | None) -> Iterator[Record]:
    """Records, one a line. A line that is not JSON is a record without values. Raises ValueError when no line is JSON."""
    valid, wrong = False, ""
    with open_text(file, encoding) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                values = _named(json.loads(line))
                valid = True
            except ValueError as error:
                values, wrong = {}, wrong or f"line {number} is not JSON: {error}"
            yield f"line {number}", values
    if wrong and not valid:
        raise ValueError(wrong)


def _of_coco(document: Mapping[str, Any]) -> Iterator[Record]:
    """COCO's caption files with ``images`` and ``annotations``: a record for each image, with all its captions."""
    captions: dict[Any, list[Any]] = {}
    for annotation in document["annotations"]:
        if not isinstance(annotation, Mapping) or "caption" not in annotation:
            keys = ", ".join(annotation) if isinstance(annotation, Mapping) else type(annotation).__name__
            raise ValueError(f"its annotations have {keys} but no caption; COCO's captions are in captions_*.json")
        captions.setdefault(annotation.get("image_id"), []).append(annotation["caption"])
    for picture in document["images"]:
        name = picture.get("file_name") or picture.get("filename")
        yield f"image {picture.get('id')}", {**picture, "image": name, "caption": captions.get(picture.get("id"))}


def _of_karpathy(images: Sequence[Mapping[str, Any]]) -> Iterator[Record]:
    """The files of Karpathy & Fei-Fei 2015: sentences for each image, with the name of the split in ``split``."""
    for number, picture in enumerate(images):
        plain = {key: value for key, value in picture.items() if isinstance(value, str | int)}
        path = os.path.join(str(picture.get("filepath") or ""), str(picture.get("filename") or ""))
        sentences = [one.get("raw") if isinstance(one, Mapping) else one for one in picture["sentences"]]
        yield f"image {number}", {**plain, "image": path, "caption": sentences}


def _of_columns(document: Mapping[str, Any]) -> Iterator[Record] | None:
    """Columns as lists of equal length, or as objects by number (written by pandas). None when it is neither."""
    columns = [[*column.values()] if isinstance(column, Mapping) else column for column in document.values()]
    if not all(isinstance(column, list) for column in columns) or len(set(map(len, columns))) != 1:
        return None
    rows = zip(*columns, strict=True)
    return ((f"item {k}", dict(zip(document, row, strict=True))) for k, row in enumerate(rows))


def _by_picture(document: Mapping[str, Any]) -> Iterator[Record]:
    """Captions or records by the path of their image."""
    for name, value in document.items():
        yield name, {"image": name, **(value if isinstance(value, Mapping) else {"caption": value})}


def _of_object(document: Mapping[str, Any]) -> Iterator[Record]:
    lists = [key for key, value in document.items() if isinstance(value, list) and value]
    if "images" in lists and "annotations" in lists:
        return _of_coco(document)
    if "images" in lists and isinstance(document["images"][0], Mapping) and "sentences" in document["images"][0]:
        return _of_karpathy(document["images"])
    if document and all(map(is_picture_path, itertools.islice(document, 20))):
        return _by_picture(document)
    of_records = [key for key in lists if isinstance(document[key][0], Mapping | list)]
    if len(of_records) == 1:
        return _of_list(document[of_records[0]])
    columns = _of_columns(document) if len(document) > 1 and not of_records else None
    if columns is not None:
        return columns
    keys = ", ".join(list(document)[:_SHOWN])
    raise ValueError(
        f"it is an object with the keys {keys}, and it is unclear which of them holds the records; name it: "
        "data.train.reader={records: <key>}"
    )


def _of_list(items: Sequence[Any]) -> Iterator[Record]:
    return ((f"item {number}", _named(item)) for number, item in enumerate(items))


def _inside(document: Any, records: str | None) -> Any:
    """The value at a dotted path. Raises ValueError listing the keys that exist."""
    for key in records.split(".") if records else ():
        if not isinstance(document, Mapping) or key not in document:
            known = ", ".join(list(document)[:_SHOWN]) if isinstance(document, Mapping) else type(document).__name__
            raise ValueError(f"data.train.reader.records {records!r}: no key {key!r} among {known}")
        document = document[key]
    return document


def read_json(file: Path, *, encoding: str | None = None, records: str | None = None) -> Iterator[Record]:
    """The records of a file: one a line, or in one document. ``records`` is the dotted path to them. Raises ValueError that
    names the fault and its place."""
    if not file.name.lower().removesuffix(".gz").endswith(".json"):
        return _of_lines(file, encoding)
    with open_text(file, encoding) as opened:
        text = opened.read()
    try:
        document = json.loads(text)
    except ValueError as error:
        first = next((line for line in text.splitlines() if line.strip()), "")
        try:
            json.loads(first)
        except ValueError:
            raise ValueError(f"it is not JSON: {error}") from error
        return _of_lines(file, encoding)  # one record a line, despite the extension
    found = _inside(document, records)
    if isinstance(found, Mapping):
        return _of_object(found)
    if not isinstance(found, list):
        raise ValueError(f"it is a single {type(found).__name__}, not records")
    return _of_list(found)


def holds_pairs(file: Path) -> bool:
    """Whether a JSON file holds records of images and captions, and not metadata."""
    with file.open("rb") as opened:
        start = opened.read(_LOOKED_AT)
        opened.seek(max(0, file.stat().st_size - _LOOKED_AT))
        around = (start + opened.read()).lower()
    if not _OF_PAIRS.search(around.replace(b"\0", b"")):
        return False
    try:
        _, first = next(read_json(file), ("", {}))
    except ValueError:
        return False
    return any(map(is_image_name, first)) and any(map(is_caption_name, first))
