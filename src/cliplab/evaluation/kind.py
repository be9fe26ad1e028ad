"""A kind of evaluation: how its results are named, printed, logged and shown. Each kind is a module of ``evaluation/kinds``.

Nothing heavy is imported here or there, so pages are made from the files of a run without torch.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from cliplab.evaluation.blocks import Block, Card, Cell, Column, Curve, Interval, Line, Row, Table
from cliplab.evaluation.references import Reference
from cliplab.evaluation.words import count, percent, span

VALIDATION = "val"  # the name of the set of validation pairs, which come with the training data

Metrics = Mapping[str, float]
Samples = Mapping[str, list[Any]]  # columns of a table with a row for each image


class ProtocolHashes(TypedDict):
    """The hashes of ``protocol_of``; None for what an evaluation does not have."""

    names: str | None
    templates: str | None
    transform: str | None
    data: str | None
    all: str


class Details(TypedDict, total=False):
    """The facts that every kind of evaluation stores beside its figures. A kind may add further ones.

    ``warnings`` are sentences that a reader must see. ``subset`` is a sentence when only a part of the set was evaluated.
    ``seconds`` is the time of each phase. ``by_score`` is there where the objective's scores took the place of cosines.
    """

    kind: str
    protocol: ProtocolHashes
    warnings: list[str]
    subset: str | None
    seconds: dict[str, float]
    by_score: bool


@dataclass(frozen=True)
class Record:
    """One result, read from the folder of a run. ``samples`` reads the columns of the per-image table, or those that are
    named. It returns an empty table when there is none."""

    kind: "Kind"
    stem: str
    dataset: str
    model: str
    pretrained: str
    metrics: Metrics
    protocol_hash: str
    details: Mapping[str, Any] = field(default_factory=dict)
    samples: Callable[..., Samples] = lambda columns=None: {}

    @property
    def headline(self) -> float:
        return self.metrics[self.kind.headline]


@dataclass(frozen=True)
class Verdict:
    """The first thing on a page: a share and what it is called, a sentence about it, and what is drawn beside it."""

    share: float
    words: str
    sentence: str
    interval: Interval | None = None
    published: Sequence[tuple[str, float]] = ()
    strip: Sequence[Card] = ()


class Kind:
    """How one kind of evaluation is printed and shown. A new kind names its figures, and overrides what it does better.

    ``name`` is stored in the details of a result, ``task`` in the result, and ``suffix`` is part of the names of its files.
    ``figures`` maps the metrics that are shown as shares to what they are called; the first one is the headline. ``facts``
    are other numbers. Metrics are logged as ``<group>/<set>/<metric>``. ``leaderboard`` are the metrics that a sweep lists,
    ``curve`` those that are drawn against training: the first as a solid line, the others dashed. With ``panel``, the same
    pictures are drawn with their cards at each evaluation. Kinds are shown in their ``order``.
    """

    name: str
    title: str
    task: str
    suffix: str = ""
    figures: Mapping[str, str]
    facts: Mapping[str, str] = {"images": "images", "classes": "classes"}
    group: str = "zeroshot"
    leaderboard: Sequence[str] = ()
    curve: Sequence[str] = ()
    panel: bool = False
    order: int = 10
    compared_under: str = "others"

    @property
    def headline(self) -> str:
        return next(iter(self.figures))

    @property
    def words(self) -> str:
        """What the headline is called."""
        return self.figures[self.headline]

    def stem(self, name: str) -> str:
        """The name of the files of a set's result, without suffix. One set may be evaluated in several ways."""
        return name + self.suffix

    def logged(self, name: str, metric: str) -> str:
        """The name under which a metric of the set ``name`` is logged, monitored and optimized: for the validation pairs
        ``val/<metric>``."""
        return f"{name}/{metric}" if name in (VALIDATION, f"{VALIDATION}_ema") else f"{self.group}/{name}/{metric}"

    def say(self, metrics: Metrics) -> str:
        """The line that is printed for a result."""
        return f"{self.words} {metrics[self.headline]:.2%}"

    def verdict(self, record: Record) -> Verdict | None:
        known = [f"{count(record.metrics[key])} {words}" for key, words in self.facts.items() if key in record.metrics]
        return Verdict(record.headline, self.words, f"{', '.join(known)}.", self.interval(record))

    def interval(self, record: Record) -> Interval | None:
        """The interval of the headline; None when the metrics do not have it."""
        low, high = (record.metrics.get(f"{self.headline}_ci_{end}") for end in ("low", "high"))
        if low is None or high is None:
            return None
        return Interval(record.headline, low, high, record.metrics.get("chance"))

    def scores(self, records: Sequence[Record]) -> list[Block]:
        """A table with a row for each set of this kind."""
        measured = {key for record in records for key in record.metrics}
        figures = {key: words for key, words in self.figures.items() if key in measured}
        facts = {key: words for key, words in self.facts.items() if key in measured}
        intervals = [self.interval(record) for record in records]
        rows = []
        for record, interval in zip(records, intervals, strict=True):
            cells = [Cell(record.dataset, strong=True)]
            cells += [Cell(percent(record.metrics.get(key)), strong=key == self.headline) for key in figures]
            if any(intervals):
                cells.append(interval_cell(interval))
            cells += [Cell(f"{record.metrics[key]:g}" if key in record.metrics else "") for key in facts]
            rows.append(Row(cells))
        columns = [Column("set", False), *map(Column, figures.values())]
        columns += [Column("95 % interval", False)] if any(intervals) else []
        return [Table([*columns, *map(Column, facts.values())], rows, title=self.title)]

    def progress(self, lines: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> list[Block]:
        """Curves against epochs and samples seen. ``lines`` are those of the history, one for each set and evaluation."""
        if not self.curve or len({line["step"] for line in lines}) < 2:
            return []
        names = list(dict.fromkeys(line["set"] for line in lines))
        return [
            Curve(
                [
                    Line(name, *self._points(lines, name, key, against), dashed=key != self.curve[0])
                    for name in names
                    for key in self.curve
                ],
                against.replace("_", " "),
                f"{self.words}, %",
                (0, 100),
                self.levels(records),
                caption=self._curve_caption(),
            )
            for against in ("epoch", "samples_seen")
        ]

    def _curve_caption(self) -> str:
        if len(self.curve) < 2:
            return ""
        solid, *dashed = (self.figures.get(key, key) for key in self.curve)
        return f"Solid {solid}, dashed {' and '.join(dashed)}."

    @staticmethod
    def _points(
        lines: Sequence[Mapping[str, Any]], name: str, key: str, against: str
    ) -> tuple[list[float], list[float]]:
        chosen = [line for line in lines if line["set"] == name and key in line["metrics"]]
        return [line[against] for line in chosen], [100 * line["metrics"][key] for line in chosen]

    def levels(self, records: Sequence[Record]) -> list[tuple[str, float]]:
        """Level lines of the curves, in percent: (words, value)."""
        return []

    def blocks(self, record: Record) -> list[Block]:
        """The blocks of a set's section. Without blocks the set has no section."""
        return []

    def across(self, records: Sequence[Record], config: Mapping[str, Any]) -> list[Block]:
        """Blocks about several sets together, such as robustness to a shift. ``config`` is the config of the run."""
        return []

    def pictured(self, samples: Samples) -> set[int]:
        """The rows of the per-image table that pages show as pictures."""
        return set()

    def card(self, details: Mapping[str, Any], samples: Samples, row: int) -> Card | None:
        """A picture with the model's answers, for shelves and for the panel that is drawn during training; None when the
        kind has no cards."""
        return None

    def references(self, dataset: str, model: str) -> list[Reference]:
        """Published figures to compare the headline with."""
        return []

    def compare(self, name: str, runs: Sequence[tuple[str, Record]]) -> dict[str, Any]:
        """Compare several runs on one set, as plain values. ``runs`` are (label, record)."""
        rows = [{"run": label, "value": record.headline} for label, record in runs]
        return {"dataset": name, "task": self.task, "metric": self.headline, "rows": rows}

    def compare_blocks(self, compared: Mapping[str, Any]) -> list[Block]:
        """The result of ``compare`` as blocks of a page."""
        rows = [
            Row([Cell(row["run"], strong=True), Cell(percent(row["value"]), row["value"], strong=True)])
            for row in compared["rows"]
        ]
        columns = [Column("run", False), Column(self.words)]
        return [Table(columns, rows, title=compared["dataset"], small=self.title, sortable=True)]


def interval_cell(interval: Interval | None) -> Cell:
    """A cell that draws an interval and prints its ends; an empty cell for None."""
    return Cell() if interval is None else Cell(span(interval.low, interval.high), soft=True, interval=interval)


class UnknownKind(Kind):
    """A result of an unknown kind, such as one of another version. Its figures are listed as they are."""

    def __init__(self, task: str, metrics: Metrics) -> None:
        self.name = self.title = task.replace("_", " ")
        self.task, self.figures = task, {}
        self.facts = {key: key.replace("_", " ") for key in metrics}

    @property
    def headline(self) -> str:
        return next(iter(self.facts), "")

    @property
    def words(self) -> str:
        return self.headline.replace("_", " ")

    def verdict(self, record: Record) -> None:
        return None


@functools.cache
def kinds() -> tuple[Kind, ...]:
    """All kinds, in the order in which they are shown: ``KIND`` of each module of ``evaluation/kinds``."""
    package = importlib.import_module("cliplab.evaluation.kinds")
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return tuple(sorted((module.KIND for module in modules), key=lambda kind: (kind.order, kind.name)))


def kind_of(task: str, metrics: Metrics, name: str | None = None) -> Kind:
    """The kind of a result: the kind that it names or, for older results, the kind of its task whose headline is among its
    metrics."""
    named = [kind for kind in kinds() if kind.name == name and kind.headline in metrics]
    fitting = [kind for kind in kinds() if kind.task == task and kind.headline in metrics]
    return (named or fitting or [UnknownKind(task, metrics)])[0]


def kind_of_evaluator(target: str) -> Kind | None:
    """The kind of one of cliplab's evaluators, from the dotted name of its class: its module has the name of the kind. None
    for any other class. The class is not imported."""
    module = target.rpartition(".")[0]
    return next((kind for kind in kinds() if module == f"cliplab.evaluation.{kind.name}"), None)


def leaderboard_metrics() -> set[str]:
    return {metric for kind in kinds() for metric in kind.leaderboard}


def is_share(metric: str) -> bool:
    """Whether a logged metric is a share, which lies in [0, 1]: one that a kind shows as such at any @k, or an accuracy."""
    name = metric.rpartition("/")[2]
    shares = {figure.partition("@")[0] for kind in kinds() for figure in kind.figures}
    return name.partition("@")[0] in shares or name.endswith("accuracy")


def headlines() -> set[str]:
    return {kind.headline for kind in kinds()}
