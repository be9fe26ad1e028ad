"""Rows of any caption source, prepared for fast training and written to shards."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from cliplab.data.images import BadImage, decode_pixels, encoded
from cliplab.data.layout import Row, Unusable
from cliplab.data.rows import CaptionRows

SUFFIX = {"jpeg": "jpg", "webp": "webp", "png": "png"}
ROWS_PER_GROUP = 256
# By these the datasets library recognises an image column.
_FEATURES = {
    "image": {"_type": "Image"},
    "captions": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    "width": {"dtype": "int32", "_type": "Value"},
    "height": {"dtype": "int32", "_type": "Value"},
    "row": {"dtype": "int64", "_type": "Value"},
}
SCHEMA = pyarrow.schema(
    [
        ("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
        ("captions", pyarrow.list_(pyarrow.string())),
        ("width", pyarrow.int32()),
        ("height", pyarrow.int32()),
        ("row", pyarrow.int64()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


class Recipe(NamedTuple):
    """How images are prepared: see configs/task/prepare.yaml."""

    shortest_side: int | None
    encoding: Literal["jpeg", "webp", "png"]
    quality: int
    deduplicate: Literal["pixels", "bytes"] | None


class Ready(NamedTuple):
    """An encoded image with its captions. ``width`` and ``height`` are those before resizing, ``row`` and ``place`` those of
    its row. Duplicates have the same ``digest``."""

    data: bytes
    suffix: str
    captions: list[str]
    width: int
    height: int
    row: int
    place: str
    digest: bytes | None


class LeftOut(NamedTuple):
    """A row that is not written: its number, its place, and why."""

    row: int
    place: str
    reason: str
    detail: str


def _encode(image: Image.Image, recipe: Recipe) -> bytes:
    buffer = io.BytesIO()
    options = {} if recipe.encoding == "png" else {"quality": recipe.quality}
    image.save(buffer, recipe.encoding.upper(), **options)
    return buffer.getvalue()


def _is_encoded_as(kind: str, data: bytes) -> bool:
    """Whether a file has this encoding, by its first bytes."""
    if kind == "webp":
        return data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return data.startswith({"jpeg": b"\xff\xd8", "png": b"\x89PNG"}[kind])


def _ready(value: Any, captions: list[str], number: int, place: str, recipe: Recipe) -> Ready:
    raw, pixels = encoded(value), decode_pixels(value)
    height, width = pixels.shape[:2]
    digest = None
    if recipe.deduplicate is not None:
        content = raw if recipe.deduplicate == "bytes" and raw is not None else pixels.tobytes()
        digest = hashlib.sha256(f"{width} {height} ".encode() + content).digest()[:16]
    image = Image.fromarray(pixels)
    side = recipe.shortest_side
    if side is not None and min(width, height) > side:
        scale = side / min(width, height)
        size = (max(side, round(width * scale)), max(side, round(height * scale)))
        data = _encode(image.resize(size, Image.Resampling.BICUBIC), recipe)
    elif raw is not None and _is_encoded_as(recipe.encoding, raw) and np.array_equal(_plain_pixels(raw), pixels):
        data = raw  # the file itself, without loss
    else:
        data = _encode(image, recipe)
    return Ready(data, SUFFIX[recipe.encoding], captions, width, height, number, place, digest)


def _plain_pixels(data: bytes) -> np.ndarray:
    """The pixels as seen by readers that ignore rotation and transparency."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def make_ready(
    rows: Sequence[tuple[int, Row | Unusable]], reader: CaptionRows, recipe: Recipe
) -> list[Ready | LeftOut]:
    """Prepare numbered rows. A row that is refused or unusable gives LeftOut with the reason. Runs in other processes."""
    done: list[Ready | LeftOut] = []
    for number, row in rows:
        if isinstance(row, Unusable):
            done.append(LeftOut(number, row.place, row.reason, "lost with its file"))
            continue
        values, place = row
        try:
            unwanted = reader.refused(values)
            done.append(
                LeftOut(number, place, unwanted, "filter")
                if unwanted
                else _ready(reader.picture(values), reader.captions(values), number, place, recipe)
            )
        except BadImage as error:
            detail = str(error).removeprefix(error.reason).removeprefix(": ")
            detail = re.sub(r" ?<[^>]* at 0x[0-9a-f]+>", "", detail)  # without memory addresses
            done.append(LeftOut(number, place, error.reason, detail))
    return done


def write_parquet(path: Path, rows: Sequence[Ready]) -> None:
    """Write columns image (as in the datasets library), captions, width, height, row, in small row groups for streaming."""
    columns = {
        "image": [{"bytes": r.data, "path": f"{r.row:09}.{r.suffix}"} for r in rows],
        "captions": [r.captions for r in rows],
        **{name: [getattr(r, name) for r in rows] for name in ("width", "height", "row")},
    }
    table = pyarrow.table(columns, schema=SCHEMA)
    options = {"row_group_size": ROWS_PER_GROUP, "use_dictionary": False, "compression": "none"}
    pyarrow.parquet.write_table(table, path, write_statistics=False, **options)


def write_webdataset(path: Path, rows: Sequence[Ready]) -> None:
    """Write a tar with, for each row, the image, ``.txt`` (one caption a line) and ``.json`` (width, height, row)."""
    with tarfile.open(path, "w") as tar:
        for r in rows:
            facts = json.dumps({"width": r.width, "height": r.height, "row": r.row}).encode()
            for suffix, data in ((r.suffix, r.data), ("txt", "\n".join(r.captions).encode()), ("json", facts)):
                member = tarfile.TarInfo(f"{r.row:09}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


FORMATS: dict[str, tuple[str, Callable[[Path, Sequence[Ready]], None]]] = {
    "parquet": ("parquet", write_parquet),
    "webdataset": ("tar", write_webdataset),
}
