"""Tars of pairs, and what a reader finds in them."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliplab.data.layout import DamagedPart
from cliplab.data.layouts.tars import TarReader
from cliplab.data.tar.index import index_tar

from .conftest import png

PNG = png(3)


def write_tar(file: Path, members: Sequence[tuple[str, bytes]], mode: str = "w", **options: Any) -> Path:
    with tarfile.open(file, mode, **options) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file


def pairs(count: int, picture: bytes = PNG, first: int = 0) -> list[tuple[str, bytes]]:
    texts = [(f"{k:03}.txt", b"number %d" % k) for k in range(first, first + count)]
    return [member for k, text in enumerate(texts, first) for member in ((f"{k:03}.png", picture), text)]


def read(file: Path, *caption_names: str) -> dict[str, tuple[Any, Any]]:
    """Captions and picture bytes by key."""
    (found,) = [TarReader([str(file)], file.parent, caption_names=caption_names)]
    rows = []
    try:
        rows = [row.values for row in _until_damage(found)]
    finally:
        assert len(rows) == index_tar(file).table.num_rows
    return {row["__key__"]: (row["caption"], row["image"] and row["image"]["bytes"]) for row in rows}


def _until_damage(reader: TarReader) -> Any:
    try:
        yield from reader.rows(0)
    except DamagedPart:
        return
