"""The characters of a text file, whatever it was written by."""

import bz2
import codecs
import gzip
import io
import lzma
from pathlib import Path
from typing import IO, Any

_MARKS = (  # the longer before the shorter that it begins with
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_AS_WINDOWS = "cliplab_as_windows_1252"


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no UTF-8 are read as Windows-1252, whose letters are Latin-1's; Excel on Windows writes it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    letters = [bytes([byte]).decode("cp1252", errors="replace") for byte in error.object[error.start : error.end]]
    return "".join(letters), error.end


codecs.register_error(_AS_WINDOWS, _as_windows_1252)


def _encoding_of(start: bytes) -> str:
    """By a byte order mark, or the zeros that UTF-16 has at every other place; else UTF-8."""
    marked = next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)
    if marked is not None:
        return marked
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if max(even, odd) > len(start) // 8:
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8"


def open_text(file: Path, encoding: str | None = None) -> IO[str]:
    """The file's text, unpacked when it is compressed, in its encoding or the one that is said. Ends of lines are left as
    they are. Raises OSError, or LookupError for an encoding that there is none of."""
    with file.open("rb") as opened:
        start = opened.read(4096)
    unpack: Any = next((unpack for magic, unpack in _COMPRESSED.items() if start.startswith(magic)), None)
    binary = file.open("rb") if unpack is None else unpack(file)
    if unpack is not None:
        start = binary.read(4096)
        binary.seek(0)
    if encoding is not None:
        return io.TextIOWrapper(binary, encoding=codecs.lookup(encoding).name, errors="replace", newline="")
    return io.TextIOWrapper(binary, encoding=_encoding_of(start), errors=_AS_WINDOWS, newline="")
