"""The plain blocks that a page is made of. A kind of evaluation fills them; templates draw them and know nothing else.

Nothing heavy is imported here: pages are made without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple


class Interval(NamedTuple):
    """Shares in [0, 1] to draw as a bar: a value, its interval, and chance where it is known."""

    value: float
    low: float
    high: float
    chance: float | None = None


@dataclass(frozen=True)
class Cell:
    """``value`` is what its column is sorted by. ``note`` stands below in soft ink. ``bar`` is a share to draw. ``tone`` is
    ``good``, ``bad`` or nothing."""

    text: str = ""
    value: float | None = None
    strong: bool = False
    soft: bool = False
    note: str = ""
    tone: str = ""
    interval: Interval | None = None
    bar: float | None = None
    span: int = 1


@dataclass(frozen=True)
class Row:
    """``style`` is ``sub`` for a row that belongs to the one above, ``reference`` for a published figure, ``best`` or
    nothing."""

    cells: Sequence[Cell]
    style: str = ""


@dataclass(frozen=True)
class Column:
    title: str
    number: bool = True


@dataclass(frozen=True)
class Table:
    """``searched`` names the rows a reader may search by their first cell, such as ``classes``; a long table scrolls."""

    shape: ClassVar[str] = "table"
    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    small: str = ""
    sortable: bool = False
    scrolls: bool = False
    searched: str = ""


class Answer(NamedTuple):
    """What the model said, with a share in [0, 1] to draw and the figure to print."""

    name: str
    share: float
    figure: str
    right: bool


class Thumbnail(NamedTuple):
    picture: bytes | None
    right: bool


@dataclass(frozen=True)
class Card:
    """A picture (PNG) with the truth and the model's answers. ``place`` says where the truth came, ``note`` what else there
    is to say, ``found`` are pictures that its text finds."""

    picture: bytes | None
    truth: str
    hit: bool
    answers: Sequence[Answer] = ()
    place: str = ""
    note: str = ""
    found: Sequence[Thumbnail] = ()


@dataclass(frozen=True)
class Shelf:
    shape: ClassVar[str] = "shelf"
    title: str
    cards: Sequence[Card]
    small: str = ""


class Pair(NamedTuple):
    """A picture, and one of what it was taken for; None for a picture that is missing."""

    left: bytes | None
    right: bytes | None
    truth: str
    answer: str
    times: int


@dataclass(frozen=True)
class Pairs:
    shape: ClassVar[str] = "pairs"
    title: str
    pairs: Sequence[Pair]
    small: str = ""


@dataclass(frozen=True)
class Overlay:
    """A picture (PNG) with layers (name, PNG with transparency, of one aspect) over it, such as predicted and true masks."""

    shape: ClassVar[str] = "overlay"
    title: str
    picture: bytes
    layers: Sequence[tuple[str, bytes]]
    small: str = ""


class Line(NamedTuple):
    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Curve:
    """Lines over one axis. Lines of one name have one colour. ``references`` are (words, value) of level lines."""

    shape: ClassVar[str] = "curve"
    lines: Sequence[Line]
    x: str
    y: str
    limits: tuple[float, float] | None = None
    references: Sequence[tuple[str, float]] = ()
    caption: str = ""


@dataclass(frozen=True)
class Calibration:
    """Accuracy against confidence; ``bins`` are (images, hits, summed confidence)."""

    shape: ClassVar[str] = "calibration"
    bins: Sequence[Sequence[float]]
    error: float


@dataclass(frozen=True)
class Note:
    """A sentence. ``alert`` makes it stand out; ``codes`` are set in a fixed width after it."""

    shape: ClassVar[str] = "note"
    text: str
    title: str = ""
    small: str = ""
    alert: bool = False
    soft: bool = False
    codes: Sequence[str] = ()


@dataclass(frozen=True)
class Beside:
    """Blocks next to each other where there is room; those of one group stay together."""

    shape: ClassVar[str] = "beside"
    groups: Sequence[Sequence["Block"]]


Block = Table | Shelf | Pairs | Overlay | Curve | Calibration | Note | Beside
