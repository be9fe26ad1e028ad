"""Opens text files of any common encoding and compression."""

import bz2
import codecs
import gzip
import io
import lzma
from pathlib import Path
from typing import IO, Any

_MARKS = (  # a longer mark comes before a shorter one that is its beginning
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
AS_WINDOWS = "cliplab_as_windows_1252"  # how to decode bytes that are not UTF-8


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that are not UTF-8 as Windows-1252, which Excel on Windows writes. It contains Latin-1's letters."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    letters = [bytes([byte]).decode("cp1252", errors="replace") for byte in error.object[error.start : error.end]]
    return "".join(letters), error.end


codecs.register_error(AS_WINDOWS, _as_windows_1252)


def decoded(data: bytes) -> str:
    """The text of a small file in UTF-8, in the encoding of its byte order mark, or else in Windows-1252."""
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding, errors=AS_WINDOWS)


def _encoding_of(start: bytes) -> str:
    """The encoding by a byte order mark, or by the zeros at every second byte of UTF-16; else UTF-8."""
    marked = next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)
    if marked is not None:
        return marked
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if max(even, odd) > len(start) // 8:
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8"


def open_text(file: Path, encoding: str | None = None) -> IO[str]:
    """Open the text of a file, compressed or not, in its own encoding or in ``encoding``. Line ends are not changed. Raises
    OSError, or LookupError for an unknown encoding."""
    with file.open("rb") as opened:
        start = opened.read(4096)
    unpack: Any = next((unpack for magic, unpack in _COMPRESSED.items() if start.startswith(magic)), None)
    binary = file.open("rb") if unpack is None else unpack(file)
    if unpack is not None:
        start = binary.read(4096)
        binary.seek(0)
    if encoding is not None:
        return io.TextIOWrapper(binary, encoding=codecs.lookup(encoding).name, errors="replace", newline="")
    return io.TextIOWrapper(binary, encoding=_encoding_of(start), errors=AS_WINDOWS, newline="")
