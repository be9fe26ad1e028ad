"""The index of a tar: a row for each sample, with its texts, and where the bytes of its pictures lie.

It is made once and kept in the cache folder, by the tar's path, size and time of change. A compressed tar is unpacked
there first, since nothing can be found in it otherwise.
"""

import bz2
import contextlib
import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow

from cliplab.data.cache import cache_root
from cliplab.data.tar.captions import captions_in, decoded
from cliplab.data.tar.members import Member, NoTar, list_members
from cliplab.data.tar.samples import JSONS, TEXTS, TarSample, last_extension, picture_field, tar_samples
from cliplab.files import whole_file

VERSION = 1  # of what is kept; a new number makes all anew
MOST_TEXT = 2**20  # bytes of a text that are read
KEPT_FROM = 2**23  # bytes of a tar from which its index is worth keeping
REMEMBERED = 64  # indices, by a process
MOST_FIELDS = 40  # columns, those that most samples have
KEY = "__key__"
OWN_COLUMNS = (KEY, "image", "caption")
_SHORT_TEXTS = frozenset(
    ("cls", "cls2", "id", "index", "inx", "url", "lang", "language", "label", "html", "xml", "csv")
)
PLACE = pyarrow.struct([("path", pyarrow.string()), ("offset", pyarrow.int64()), ("size", pyarrow.int64())])
_TYPES = {KEY: pyarrow.string(), "image": PLACE, "caption": pyarrow.list_(pyarrow.string())}
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda path: pyarrow.input_stream(str(path), compression="zstd"),
}


class IndexedTar(NamedTuple):
    """``faults`` are (reason, detail): a short code to count by, and in words what is damaged."""

    table: pyarrow.Table
    faults: list[tuple[str, str]]


def _is_picture(start: bytes) -> bool:
    boxed = (start[:4] == b"RIFF" and start[8:12] == b"WEBP") or start[4:12] in (b"ftypavif", b"ftypheic")
    return boxed or start.startswith(_MAGIC)


class _Reader:
    """Reads members of one opened tar."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, member: Member, most: int = MOST_TEXT) -> bytes:
        self.file.seek(member.offset)
        return self.file.read(min(member.size, most))

    def picture(self, fields: Mapping[str, Member]) -> str | None:
        """The field that is the sample's picture, by name or else by its bytes."""
        named = picture_field([*fields])
        if named is not None:
            return named
        others = [suffix for suffix in fields if last_extension(suffix) not in TEXTS | JSONS]
        return next((suffix for suffix in others if _is_picture(self.read(fields[suffix], 16))), None)

    def value(self, suffix: str, member: Member, place: Mapping[str, Any]) -> Any:
        """What stands in a field's column: text, a list of numbers, or the place of the bytes."""
        kind = _type_of(suffix)
        if kind == PLACE:
            return place
        if kind == pyarrow.string():
            return decoded(self.read(member)) if member.size <= MOST_TEXT else None
        try:
            return np.load(io.BytesIO(self.read(member)), allow_pickle=False).astype(np.float64).ravel().tolist()
        except (ValueError, EOFError, OSError):
            return None


def _type_of(suffix: str) -> pyarrow.DataType:
    extension = last_extension(suffix)
    if extension in TEXTS | JSONS | _SHORT_TEXTS:
        return pyarrow.string()
    return pyarrow.list_(pyarrow.float64()) if extension == "npy" else PLACE


def _row(
    sample: TarSample, path: str, reader: _Reader, columns: Sequence[str], wanted: Sequence[str]
) -> dict[str, Any]:
    places = {s: {"path": path, "offset": m.offset, "size": m.size} for s, m in sample.fields.items()}
    values = {s: reader.value(s, m, places[s]) for s, m in sample.fields.items() if s in columns}
    texts = {s: values[s] for s in values if _type_of(s) == pyarrow.string()}
    for suffix, member in sample.fields.items():  # captions are found in fields that have no column, too
        if suffix not in columns and last_extension(suffix) in TEXTS | JSONS:
            texts[suffix] = decoded(reader.read(member))
    picture = reader.picture(sample.fields)
    own = {
        KEY: sample.key,
        "image": None if picture is None else places[picture],
        "caption": captions_in(texts, wanted),
    }
    return {**values, **own}


def _table(samples: Sequence[TarSample], path: Path, wanted: Sequence[str]) -> pyarrow.Table:
    counted = Counter(suffix for sample in samples for suffix in sample.fields if suffix and suffix not in OWN_COLUMNS)
    columns = sorted(suffix for suffix, _ in counted.most_common(MOST_FIELDS))
    schema = pyarrow.schema([*_TYPES.items(), *((name, _type_of(name)) for name in columns)])
    with path.open("rb", buffering=2**14) as file:
        reader = _Reader(file)
        rows = [_row(sample, str(path), reader, columns, wanted) for sample in samples]
    return pyarrow.Table.from_pylist(rows, schema=schema)


def _unpacked(path: Path, opened: Callable[[Path], Any], kept: Path) -> tuple[Path, list[tuple[str, str]]]:
    """The tar inside a compressed file, as far as it can be unpacked, and what was damaged."""
    note = kept.with_suffix(".damaged")
    if not kept.is_file():
        damage = ""
        own = kept.with_name(f"{kept.stem}.{os.getpid()}")
        try:
            with whole_file(own, "wb", sync=False) as target, opened(path) as source:
                try:
                    while data := source.read1(2**16) if hasattr(source, "read1") else source.read(2**16):
                        target.write(data)
                except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                    if isinstance(error, OSError) and error.errno:  # the disk, not the data
                        raise
                    damage = f"the compressed data are cut short or damaged ({str(error).rstrip('.')})"
            if damage:
                note.write_text(damage, encoding="utf8")
            os.replace(own, kept)
        except OSError as error:
            raise OSError(
                f"{path} is compressed and must be unpacked into {kept.parent}, which failed: {error}; unpack it "
                "yourself, or name another folder: CLIPLAB_CACHE=<folder>"
            ) from error
    return kept, [("damaged_tar", note.read_text(encoding="utf8"))] if note.is_file() else []


def _made(path: Path, wanted: Sequence[str], kept: Path) -> IndexedTar:
    faults: list[tuple[str, str]] = []
    with path.open("rb") as file:
        start = file.read(8)
    opened = next((opened for magic, opened in _COMPRESSED.items() if start.startswith(magic)), None)
    try:
        if opened is not None:
            path, faults = _unpacked(path, opened, kept.with_suffix(".tar"))
        listing = list_members(path)
    except NoTar as error:
        return IndexedTar(_table([], path, wanted), [*faults, ("not_a_tar", str(error))])
    samples = tar_samples(listing.members)
    faults += [("damaged_tar", fault) for fault in listing.faults]
    if not samples and not faults:
        faults.append(("empty_tar", "no sample is in it"))
    return IndexedTar(_table(samples, path, wanted), faults)


@contextlib.contextmanager
def _ignoring_disk() -> Iterator[None]:
    """The index can be made again: a folder that cannot be written, or a full disk, is no reason to stop."""
    with contextlib.suppress(OSError, pyarrow.ArrowException):
        yield


def _kept(file: Path) -> IndexedTar | None:
    try:
        with pyarrow.memory_map(str(file)) as source:
            table = pyarrow.ipc.open_file(source).read_all()
    except (OSError, pyarrow.ArrowException):
        return None
    faults = [(reason, detail) for reason, detail in json.loads(table.schema.metadata[b"faults"])]
    return IndexedTar(table.replace_schema_metadata(None), faults)


def index_tar(file: str | Path, wanted: Sequence[str] = ()) -> IndexedTar:
    """The samples of a tar in order, compressed or not, with columns ``__key__``, ``image`` (the place of whichever member
    is a picture), ``caption`` (a list; None when there is none) and one for each kind of member. ``wanted`` are names
    of members or JSON fields that captions are looked for in before the usual ones. Raises OSError."""
    path = Path(os.path.abspath(file))
    facts = path.stat()
    return _index(path, facts.st_size, facts.st_mtime_ns, tuple(wanted), cache_root())


@functools.lru_cache(maxsize=REMEMBERED)
def _index(path: Path, size: int, changed: int, wanted: Sequence[str], folder: Path) -> IndexedTar:
    known = repr((VERSION, str(path), size, changed, list(wanted)))
    kept = folder / "tars" / f"{hashlib.sha256(known.encode()).hexdigest()[:32]}.arrow"
    indexed = _kept(kept)
    if indexed is not None and (not indexed.table.num_rows or _still_there(indexed.table)):
        return indexed
    indexed = _made(path, wanted, kept)
    if size < KEPT_FROM:
        return indexed
    with _ignoring_disk():
        own = kept.with_name(f"{kept.stem}.{os.getpid()}")
        table = indexed.table.replace_schema_metadata({"faults": json.dumps(indexed.faults)})
        with whole_file(own, "wb", sync=False) as target, pyarrow.ipc.new_file(target, table.schema) as writer:
            writer.write_table(table, max_chunksize=10_000)
        os.replace(own, kept)
    return indexed


def _still_there(table: pyarrow.Table) -> bool:
    """Whether the file that the index points into is there: someone may have emptied the cache of unpacked tars."""
    place = next((place for place in table["image"][:1000].to_pylist() if place), None)
    return place is None or os.path.isfile(place["path"])
