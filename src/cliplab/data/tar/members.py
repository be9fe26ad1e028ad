"""The members of a tar: the place of their bytes, and what is damaged.

Python's own reader stops at the first damaged header, and mistakes zero blocks between joined archives for the end.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MAGIC, _MAGIC_AT = b"ustar", 257  # the mark of every tar since 1988, and its place in a header
_SEARCHED_AT_ONCE = 2**20
_REGULAR, _HARD_LINK, _SYMBOLIC_LINK = b"0\0007", b"1", b"2"
_WITHOUT_DATA = b"123456"  # links, devices, folders and pipes
_MOST_EXTENDED = 2**20  # bytes of an extended header; a longer one is damage
# How files of other kinds begin.
_OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with git lfs pull",
    b"<!doctype": "an HTML page",
    b"<html": "an HTML page",
    b"<?xml": "an XML page",
    b"pk\3\4": "a zip archive",
    b"par1": "a Parquet file",
    b"rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"{": "JSON",
}


class NoTar(ValueError):
    """The file is not a tar at all."""


class Member(NamedTuple):
    """A file in a tar: ``size`` bytes from ``offset`` on."""

    name: str
    offset: int
    size: int


@dataclass
class Listing:
    """The members of a tar. ``faults`` describe what is damaged, and where; ``closed`` is whether the tar ends correctly."""

    members: list[Member] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    closed: bool = False


class _Header(NamedTuple):
    name: str
    size: int
    kind: bytes
    link: str


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf8", errors="surrogateescape")


def _number(data: bytes) -> int:
    """Octal digits, or binary with the first bit set, as GNU tar writes large numbers. Raises ValueError."""
    if data[0] & 0x80:
        return int.from_bytes(bytes([data[0] & 0x7F]) + data[1:])
    return int(data.split(b"\0", 1)[0].strip() or b"0", 8)


def _header(block: bytes) -> _Header | None:
    """The values of a header block. None when the checksum or a number is wrong."""
    try:
        stored, size = _number(block[148:156]), _number(block[124:136])
    except ValueError:
        return None
    outside = block[:148] + block[156:]
    plain = sum(outside) + 8 * 32
    if len(block) < BLOCK or (stored != plain and stored != plain - 256 * sum(byte > 127 for byte in outside)):
        return None  # some old programs summed signed characters
    name, kind = _text(block[:100]), block[156:157]
    prefix = _text(block[345:500]) if block[_MAGIC_AT : _MAGIC_AT + 6] == b"ustar\0" else ""
    return _Header(f"{prefix}/{name}" if prefix else name, size, kind, _text(block[157:257]))


def _records(data: bytes) -> dict[str, str]:
    """The records of a PAX header. Raises ValueError when it is damaged."""
    found, place = {}, 0
    while place < len(data) and data[place]:
        space = data.index(b" ", place)
        end = place + int(data[place:space])
        key, separator, value = data[space + 1 : end - 1].partition(b"=")
        if not separator or end > len(data):
            raise ValueError("a record of an extended header is damaged")
        found[key.decode()] = value.decode("utf8", errors="surrogateescape")
        place = end
    return found


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _search_header(file: BinaryIO, start: int) -> int | None:
    """The place of the next sound header from ``start`` on, also inside a block. None when there is none."""
    place, kept = start, b""
    file.seek(start)
    while data := file.read(_SEARCHED_AT_ONCE):
        joint, base = kept + data, place - len(kept)
        found = joint.find(_MAGIC)
        while found >= 0:
            begin = base + found - _MAGIC_AT
            if begin >= start:
                file.seek(begin)
                if _header(file.read(BLOCK)):
                    return begin
            found = joint.find(_MAGIC, found + 1)
        place += len(data)
        kept = joint[-len(_MAGIC) + 1 :]
        file.seek(place)
    return None


def _kind_of(start: bytes) -> str:
    """What a file is that begins like this and is not a tar."""
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    return next((what for begin, what in _OTHERS.items() if text.startswith(begin)), "not a tar")


class _Walk:
    """One walk over the headers of a tar."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self.file, self.length, self.place = file, length, 0
        self.listing, self.links = Listing(), list[tuple[str, str]]()
        self.long: dict[str, str] = {}  # values for the next header from extended ones: path, linkpath, size

    def _read(self, size: int) -> bytes:
        self.file.seek(self.place)
        return self.file.read(size)

    def _fault(self, what: str) -> None:
        self.listing.faults.append(what)

    def run(self) -> Listing:
        while self.place < self.length:
            block = self._read(BLOCK)
            if len(block) < BLOCK:
                if not self.place:
                    raise NoTar(f"it is {_kind_of(block)}")
                self._fault(f"cut short inside a header, at byte {self.length}")
                break
            if block == _ZEROS:
                self.listing.closed = True
                if not self._skip_zeros():
                    break
                continue
            header = _header(block)
            if header is None:
                if not self._find_on(block):
                    break
            elif not self._take(header):
                break
        else:
            if not self.listing.closed:
                self._fault(f"cut short: the closing blocks are missing, at byte {self.length}")
        self._follow_links()
        return self.listing

    def _skip_zeros(self) -> bool:
        """Skip zeros between archives that were joined with ``cat``. False when no header follows."""
        while data := self._read(_SEARCHED_AT_ONCE):
            begin = len(data) - len(data.lstrip(b"\0"))
            if begin < len(data):
                self.place += begin // BLOCK * BLOCK
                joined = _header(self._read(BLOCK)) is not None
                self.listing.closed = not joined
                return joined
            self.place += len(data)
        return False

    def _find_on(self, block: bytes) -> bool:
        """Continue after a damaged header. False when no sound one follows."""
        if self.listing.closed:
            return False
        found = _search_header(self.file, self.place + 1)
        if found is None and not self.place:
            raise NoTar(f"it is {_kind_of(block)}")
        self._fault(f"a damaged header at byte {self.place}")
        self.long = {}
        if found is None:
            return False
        self.place = found
        return True

    def _take(self, header: _Header) -> bool:
        """Record what a header describes and skip its data. False when the file ends before that."""
        self.listing.closed = False
        begin = self.place + BLOCK
        if header.kind in (b"x", b"X", b"g", b"L", b"K"):
            return self._extended(header, begin)
        name = self.long.get("path", header.name)
        link = self.long.get("linkpath", header.link)
        size = int(self.long["size"]) if self.long.get("size", "").isdigit() else header.size
        sparse = any(key.startswith("GNU.sparse") for key in self.long)
        self.long = {}
        if header.kind == b"S":  # a GNU sparse file: blocks with more of its map may follow the header
            sparse, more = True, self._read(BLOCK)[482]
            while more:
                self.place, begin = begin, begin + BLOCK
                more = (self._read(BLOCK) or b"\0").ljust(BLOCK, b"\0")[504]
        if header.kind and header.kind in _WITHOUT_DATA:
            if header.kind in (_HARD_LINK, _SYMBOLIC_LINK):
                folder = "" if header.kind == _HARD_LINK else os.path.dirname(name)
                self.links.append((name, os.path.normpath(os.path.join(folder, link))))
            self.place = begin
            return True
        if begin + size > self.length:
            self._fault(f"cut short inside {name}, at byte {self.length}")
            return False
        if sparse:
            self._fault(f"{name} is stored as a sparse file, which is not read")
        elif (header.kind in _REGULAR or not header.kind) and not name.endswith("/"):
            self.listing.members.append(Member(name, begin, size))
        self.place = begin + _padded(size)
        return True

    def _extended(self, header: _Header, begin: int) -> bool:
        if header.size > _MOST_EXTENDED or begin + header.size > self.length:
            whole = header.size > _MOST_EXTENDED and begin + header.size <= self.length
            self._fault(f"{'a damaged' if whole else 'cut short inside a'} header, at byte {self.place}")
            self.place = begin
            return whole
        self.place = begin
        data = self._read(header.size)
        if header.kind in (b"L", b"K"):
            self.long["path" if header.kind == b"L" else "linkpath"] = _text(data)
        elif header.kind != b"g":
            try:
                self.long |= _records(data)
            except ValueError:
                self._fault(f"a damaged header at byte {begin - BLOCK}")
        self.place = begin + _padded(header.size)
        return True

    def _follow_links(self) -> None:
        """Add each link as a copy of the member that it names, at the end of the list. A link without target is left out."""
        by_name = {os.path.normpath(member.name): member for member in self.listing.members}
        waiting = dict(self.links)
        for name, target in self.links:
            seen = {name}
            while target not in by_name and target in waiting and target not in seen:
                seen.add(target)
                target = waiting[target]
            if target in by_name:
                self.listing.members.append(by_name[target]._replace(name=name))


def list_members(path: Path) -> Listing:
    """The regular files of an uncompressed tar in their order, with links followed, and what is damaged. After a damaged
    header the reading continues at the next sound one. Raises NoTar, or OSError."""
    length = path.stat().st_size
    if not length:
        raise NoTar("it has no bytes")
    with path.open("rb", buffering=2**14) as file:
        return _Walk(file, length).run()
