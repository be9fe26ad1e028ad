"""The blocks of a page. A kind of evaluation fills them, and templates draw them. Templates know nothing else.

Nothing heavy is imported here, so pages are made without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple


class Interval(NamedTuple):
    """Shares in [0, 1] that are drawn as a bar: a value, its interval, and chance when it is known."""

    value: float
    low: float
    high: float
    chance: float | None = None


@dataclass(frozen=True)
class Cell:
    """Its column is sorted by ``value``. ``note`` is printed below in a soft colour. ``bar`` is a share to draw. ``tone`` is
    ``good``, ``bad`` or ""."""

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
    """``style`` is ``sub`` for a row that belongs to the row above, ``reference`` for a published figure, ``best`` or ""."""

    cells: Sequence[Cell]
    style: str = ""


@dataclass(frozen=True)
class Column:
    title: str
    number: bool = True


@dataclass(frozen=True)
class Table:
    """``searched`` says what the rows are, such as ``classes``, in a table that readers can search by the first cell."""

    shape: ClassVar[str] = "table"
    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    small: str = ""
    sortable: bool = False
    scrolls: bool = False
    searched: str = ""


class Answer(NamedTuple):
    """An answer of the model, with a share in [0, 1] to draw and the figure to print."""

    name: str
    share: float
    figure: str
    right: bool


class Thumbnail(NamedTuple):
    picture: bytes | None
    right: bool


@dataclass(frozen=True)
class Card:
    """A picture (PNG) with the truth and the model's answers. ``place`` says at which rank the truth came. ``note`` is a
    further remark. ``found`` are the pictures that its text finds."""

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
    """A picture, and a picture of the class that it was taken for. None stands for a missing picture."""

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
    """A picture (PNG) under layers such as predicted and true masks: (name, transparent PNG of the same aspect)."""

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
    """Lines over one axis. Lines of the same name have the same colour. ``references`` are level lines: (words, value)."""

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
    """A sentence. ``alert`` makes it stand out. ``codes`` are printed before it in a fixed-width font."""

    shape: ClassVar[str] = "note"
    text: str
    title: str = ""
    small: str = ""
    alert: bool = False
    soft: bool = False
    codes: Sequence[str] = ()


@dataclass(frozen=True)
class Beside:
    """Groups of blocks that are placed side by side when there is room."""

    shape: ClassVar[str] = "beside"
    groups: Sequence[Sequence["Block"]]


Block = Table | Shelf | Pairs | Overlay | Curve | Calibration | Note | Beside
