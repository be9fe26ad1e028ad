"""The index of a tar: a row for each sample, with its texts, and the place of its images' bytes.

It is made once and kept in the cache folder, by the tar's path, size and modification time. A compressed tar is first
unpacked there, since compressed files have no random access.
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
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow

from cliplab.data.cache import cache_root, cached_file
from cliplab.data.tables.text import decoded
from cliplab.data.tar.captions import captions_in
from cliplab.data.tar.members import Member, NoTar, list_members
from cliplab.data.tar.samples import JSONS, TEXTS, TarSample, last_extension, picture_field, tar_samples

VERSION = 4  # of the index files; a new number makes them again
MOST_TEXT = 2**20  # bytes of a text; longer ones are cut or left out
KEPT_FROM = 2**23  # bytes of a tar; the index of a smaller one is not kept
REMEMBERED = 64  # indices in the memory of a process
MOST_FIELDS = 40  # columns for members; the most frequent ones
KEY = "__key__"
MADE_COLUMNS = (KEY, "image", "caption")
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
    """The samples of a tar. ``faults`` are (reason, detail): a short code to count by, and a description."""

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
        """The field that holds the sample's image, found by name or else by its bytes."""
        named = picture_field([*fields])
        if named is not None:
            return named
        others = [suffix for suffix in fields if last_extension(suffix) not in TEXTS | JSONS]
        return next((suffix for suffix in others if _is_picture(self.read(fields[suffix], 16))), None)

    def value(self, suffix: str, member: Member, place: Mapping[str, Any]) -> Any:
        """The value of a field's column: text, a list of numbers, or the place of the bytes."""
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
    for suffix, member in sample.fields.items():  # captions may be in fields that have no column
        if suffix not in columns and last_extension(suffix) in TEXTS | JSONS:
            texts[suffix] = decoded(reader.read(member))
    picture = reader.picture(sample.fields)
    image = None if picture is None else places[picture]
    return {**values, KEY: sample.key, "image": image, "caption": captions_in(texts, wanted)}


def _table(samples: Sequence[TarSample], path: Path, wanted: Sequence[str]) -> pyarrow.Table:
    counted = Counter(suffix for sample in samples for suffix in sample.fields if suffix and suffix not in MADE_COLUMNS)
    columns = sorted(suffix for suffix, _ in counted.most_common(MOST_FIELDS))
    schema = pyarrow.schema([*_TYPES.items(), *((name, _type_of(name)) for name in columns)])
    with path.open("rb", buffering=2**14) as file:
        reader = _Reader(file)
        rows = [_row(sample, str(path), reader, columns, wanted) for sample in samples]
    return pyarrow.Table.from_pylist(rows, schema=schema)


def _unpack(source: Any, target: IO[bytes]) -> str:
    """Copy the content of a compressed file, as far as it can be unpacked. Returns what is damaged, or ""."""
    try:
        while data := source.read1(2**16) if hasattr(source, "read1") else source.read(2**16):
            target.write(data)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk, not the data
            raise
        return f"the compressed data are cut short or damaged ({str(error).rstrip('.')})"
    return ""


def _unpacked(path: Path, opened: Callable[[Path], Any], kept: Path) -> tuple[Path, list[tuple[str, str]]]:
    """The tar inside a compressed file, as far as it can be unpacked, and its faults."""
    note = kept.with_suffix(".damaged")
    if not kept.is_file():
        try:
            with cached_file(kept) as target, opened(path) as source:
                damage = _unpack(source, target)
                if damage:
                    note.write_text(damage, encoding="utf8")
        except OSError as error:
            raise OSError(
                f"{path} is compressed and must be unpacked into {kept.parent}, which failed: {error}; unpack it "
                "yourself, or name another folder: CLIPLAB_CACHE=<folder>"
            ) from error
    return kept, [("damaged_tar", note.read_text(encoding="utf8"))] if note.is_file() else []


def _made(path: Path, wanted: Sequence[str], kept: Path) -> IndexedTar:
    """Make the index of a tar."""
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
        faults.append(("empty_tar", "it has no samples"))
    return IndexedTar(_table(samples, path, wanted), faults)


@contextlib.contextmanager
def _ignoring_disk() -> Iterator[None]:
    """Ignore errors of the disk: the index can be made again, so a read-only folder or a full disk must not stop a run."""
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
    """The samples of a tar, compressed or not, in order.

    The columns are ``__key__``, ``image`` (the place of the member that is an image), ``caption`` (a list; None when there
    is none) and one for each kind of member. Captions are looked for in the members or JSON fields that ``wanted`` names,
    then in the usual ones. Raises OSError.
    """
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
        table = indexed.table.replace_schema_metadata({"faults": json.dumps(indexed.faults)})
        with cached_file(kept) as target, pyarrow.ipc.new_file(target, table.schema) as writer:
            writer.write_table(table, max_chunksize=10_000)
    return indexed


def _still_there(table: pyarrow.Table) -> bool:
    """Whether the file that the index refers to still exists: the cache of unpacked tars may have been emptied."""
    place = next((place for place in table["image"][:1000].to_pylist() if place), None)
    return place is None or os.path.isfile(place["path"])
