"""Reads delimited text (CSV, TSV): its separator, its header, and its records with their line numbers."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from cliplab.data.tables.names import CAPTION_NAMES, is_caption_name, is_image_name
from cliplab.data.tables.text import open_text
from cliplab.data.tar.samples import PICTURES

SEPARATORS = ",\t;|"
LOOKED_AT = 5  # lines of a text that may be a table
SAMPLED = 200  # lines from which separator and header are guessed
MOST_LINES = 200  # of one record; a quote that stays open longer is an ordinary character
MOST_CHARACTERS = 2**24  # of one cell
NUMBER_OF_CAPTION = re.compile(r"#\d+$")  # after the name of a picture, in Flickr8k's and Flickr30k's own files
_ESCAPED = re.compile(r'\\"(?!\s*([,;\t|]|$))')  # a quote after a backslash that does not end a cell
_DOUBLED = re.compile(r'[^,;\t|\s]""[^,;\t|\s]')  # a quote written twice within a cell
Record = tuple[int, list[str]]  # the line it begins at, from 1, and its cells

csv.field_size_limit(MOST_CHARACTERS)


class Dialect(NamedTuple):
    """How a file is written. ``header`` is the number of records before the first row, ``columns`` the column names."""

    separator: str
    header: int
    columns: list[str]


def _lines(file: IO[str]) -> Iterator[str]:
    """The lines without their ends, which may be those of any system, and without zero bytes."""
    with file:
        for line in file:
            yield line.replace("\0", "").rstrip("\r\n")


def _cells(text: str, separator: str) -> list[str]:
    """The cells of one record with quotes; empty when the text is several records."""
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True))
    return rows[0] if len(rows) == 1 else []


def _is_open(text: str, separator: str) -> bool:
    """Whether a quoted cell is still open at the end of ``text``."""
    return text.count('"') % 2 == 1 and any(cell.lstrip().startswith('"') for cell in text.split(separator))


def _is_record(line: str, separator: str, usual: int) -> bool:
    """Whether a line is certainly a whole record: it has as many cells as the first one, and one is a path of an image."""
    cells = line.split(separator)
    return usual == len(cells) > 1 and any(map(is_picture_path, cells))


def records(lines: Iterable[str], separator: str) -> Iterator[Record]:
    """The records in lines. Blank lines are skipped. A quoted cell may span lines. A quote is an ordinary character when it
    never ends, or when the lines up to its end contain whole records."""
    numbered = ((number, line) for number, line in enumerate(lines, 1))
    waiting: list[tuple[int, str]] = []

    def following() -> tuple[int, str] | None:
        return waiting.pop(0) if waiting else next(numbered, None)

    usual = 0  # cells of the first record
    while (found := following()) is not None:
        number, text = found
        if not text.strip():
            continue
        taken: list[tuple[int, str]] = []
        joint = text
        while _is_open(joint, separator) and len(taken) < MOST_LINES and (more := following()) is not None:
            taken.append(more)
            joint += "\n" + more[1]
        swallowed = any(_is_record(line, separator, usual) for _, line in taken)
        whole = not swallowed and not _is_open(joint, separator)
        cells = _cells(joint, separator) if whole and '"' in joint else []
        if not cells:
            cells = text.split(separator)
            waiting[:0] = taken
        usual = usual or len(cells)
        yield number, cells


def is_picture_path(cell: str) -> bool:
    name = NUMBER_OF_CAPTION.sub("", cell.split("?")[0])
    return name.rsplit(".", 1)[-1].lower() in PICTURES and "." in name and not {"\n", "\t"} & {*cell}


def _knows(cells: Sequence[str]) -> int:
    """How many of the two columns, image and caption, have a usual name."""
    return any(map(is_image_name, cells)) + any(map(is_caption_name, cells))


def _separator_of(lines: Sequence[str]) -> str:
    """The most plausible separator: the first record has usual names, then most records have a path of an image, then most
    records have as many cells as the first."""

    def score(separator: str) -> tuple[float, ...]:
        rows = [[cell.strip() for cell in cells] for _, cells in records(lines, separator)]
        count = len(rows[0]) if rows else 0
        if count < 2:
            return (0,)
        paths = sum(any(map(is_picture_path, row)) for row in rows) / len(rows)
        same = sum(len(row) == count for row in rows) / len(rows)
        return (_knows(rows[0]), paths, same, count)

    return max(SEPARATORS, key=score)


def _named_by_place(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names for columns without a header: the column of paths is ``image``, the longest of the others ``caption``."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    cells = [[row[k] for row in rows if k < len(row)] for k in range(width)]  # by column
    image = max(range(width), key=lambda k: sum(map(is_picture_path, cells[k])))
    others = [k for k in range(width) if k != image]
    caption = max(others, key=lambda k: (sum(map(len, cells[k])) / len(cells[k]), -k), default=None)
    return ["image" if k == image else "caption" if k == caption else f"column_{k}" for k in range(width)]


def _distinct(names: Sequence[str]) -> list[str]:
    """Distinct names: an empty or repeated name gets its number."""
    done: list[str] = []
    for place, name in enumerate(names):
        done.append(name if name and name not in done else f"{name or 'column'}_{place}")
    return done


def dialect_of(lines: Sequence[str], separator: str | None = None, header: bool | None = None) -> Dialect:
    """The dialect of a file by its first lines, except for values that are given. A first record without usual names is a
    row when it has a path of an image, else a header."""
    chosen = separator or _separator_of(lines)
    rows = [[cell.strip() for cell in cells] for _, cells in records(lines, chosen)]
    if not rows:
        return Dialect(chosen, 0, [])
    if header is None:
        header = bool(_knows(rows[0])) or not any(map(is_picture_path, rows[0]))
    if header:
        return Dialect(chosen, 1, _distinct(rows[0]))
    return Dialect(chosen, 0, _named_by_place(rows))


def _fitted(cells: list[str], columns: Sequence[str], caption: int | None, separator: str) -> list[str | None]:
    """The cells of a record, one for each column. Extra cells come from separators in an unquoted caption and are joined
    again. Missing cells are None."""
    extra = len(cells) - len(columns)
    if extra > 0 and caption is not None:
        cells = [*cells[:caption], separator.join(cells[caption : caption + extra + 1]), *cells[caption + extra + 1 :]]
    return [*(cell.strip() for cell in cells[: len(columns)]), *[None] * -extra]


def _caption_place(columns: Sequence[str]) -> int | None:
    known = [name.lower() for name in columns]
    named = [known.index(name) for name in CAPTION_NAMES if name in known]
    return named[0] if named else None


def _escapes(lines: Sequence[str]) -> bool:
    """Whether quotes within a cell are written with a backslash, as by MySQL, and not twice."""
    return any(map(_ESCAPED.search, lines)) and not any(map(_DOUBLED.search, lines))


def _without_comments(lines: Sequence[str]) -> list[str]:
    """The lines, where those that begin the file with ``#`` are empty, unless they hold a picture. A header after a ``#``
    keeps its names."""
    done = list(lines)
    for place, line in enumerate(lines[:-1]):
        if not line.startswith("#"):
            break
        bare = line.lstrip("# ")
        by_separator = [[cell.strip() for cell in bare.split(separator)] for separator in SEPARATORS]
        if any(is_picture_path(cell) for cells in by_separator for cell in cells[1:] or cells):
            break
        done[place] = bare if any(_knows(cells) == 2 for cells in by_separator) else ""
    return done


def lists_pictures(file: Path) -> bool:
    """Whether the first lines of a text are a table of pictures and captions."""
    try:
        first = list(itertools.islice(_lines(open_text(file, None)), LOOKED_AT))
    except (OSError, LookupError):
        return False
    separator = _separator_of(first)
    rows = [cells for _, cells in records(first, separator)][1:]  # the first may be a header
    return len(rows) > 1 and all(len(cells) > 1 and any(map(is_picture_path, cells)) for cells in rows)


class Delimited(NamedTuple):
    """Columns and rows of a file. ``rows`` gives the line number of each row and its cells as text, None where missing."""

    columns: list[str]
    rows: Iterator[tuple[int, list[str | None]]]


def read_delimited(
    file: Path, *, separator: str | None = None, encoding: str | None = None, header: bool | None = None
) -> Delimited:
    """Read a file of delimited text. Values that are None are guessed. Raises OSError or LookupError."""
    lines = _lines(open_text(file, encoding))
    first = list(itertools.islice(lines, SAMPLED))
    if first and first[0].lower().startswith("sep="):  # as Excel writes
        separator, first[0] = first[0][4:] or separator, ""
    first = _without_comments(first)
    if _escapes(first):
        first = [line.replace('\\"', '""') for line in first]
        lines = (line.replace('\\"', '""') for line in lines)
    dialect = dialect_of(first, separator, header)
    caption = _caption_place(dialect.columns)
    found = itertools.islice(records(itertools.chain(first, lines), dialect.separator), dialect.header, None)
    fitted = ((number, _fitted(cells, dialect.columns, caption, dialect.separator)) for number, cells in found)
    return Delimited(dialect.columns, fitted)
