"""A kind of evaluation, as files, screens, logs and pages know it: told once, in a module of ``evaluation/kinds``.

Nothing heavy is imported here or there: pages are made from a run's files without torch.
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

Metrics = Mapping[str, float]
Samples = Mapping[str, list[Any]]  # columns with a row per image


class Details(TypedDict, total=False):
    """What every kind tells beside its figures; kinds add their own.

    ``protocol`` holds the hashes of ``protocol_of``, ``warnings`` sentences that a reader must see, ``subset`` a sentence
    when only a part of the set was evaluated, ``seconds`` what each phase took.
    """

    kind: str
    protocol: dict[str, str | None]
    warnings: list[str]
    subset: str | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Record:
    """One result as read from a run's folder. ``samples`` reads columns of the per-image table, all or those named; they
    are empty when there is no table."""

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
    """The first thing on a page: a share with its words, what else is to say about it, and how it is drawn."""

    share: float
    words: str
    sentence: str
    interval: Interval | None = None
    published: Sequence[tuple[str, float]] = ()
    strip: Sequence[Card] = ()


class Kind:
    """What to say and to show of one kind of evaluation. A new kind names its figures, and overrides what it does better.

    ``name`` stands in a result's details, ``task`` in its results, ``suffix`` in the names of its files. ``figures`` are
    the shares that are shown, by metric with their words, and the first one is the headline; ``facts`` are other numbers
    beside them. ``group`` is where it is logged: ``<group>/<set>/<metric>``. ``leaderboard`` are the figures that a sweep
    lists, ``curve`` those drawn against training: the first solid, others dashed. With a
    ``panel``, the same pictures are drawn with their cards at each evaluation. Kinds are shown by their ``order``.
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
        """What the files of a set's result are called; one set may be evaluated in several ways."""
        return name + self.suffix

    def logged(self, name: str, metric: str) -> str:
        """Under what a metric of the set ``name`` is logged, monitored and optimized."""
        return f"{self.group}/{name}/{metric}"

    def say(self, metrics: Metrics) -> str:
        """The line on the screen."""
        return f"{self.words} {metrics[self.headline]:.2%}"

    def verdict(self, record: Record) -> Verdict | None:
        known = [f"{count(record.metrics[key])} {words}" for key, words in self.facts.items() if key in record.metrics]
        return Verdict(record.headline, self.words, f"{', '.join(known)}.", self.interval(record))

    def interval(self, record: Record) -> Interval | None:
        """Of the headline, where the metrics have it."""
        low, high = (record.metrics.get(f"{self.headline}_ci_{end}") for end in ("low", "high"))
        if low is None or high is None:
            return None
        return Interval(record.headline, low, high, record.metrics.get("chance"))

    def scores(self, records: Sequence[Record]) -> list[Block]:
        """All sets of this kind beside each other."""
        figures, facts = (
            {key: words for key, words in told.items() if any(key in record.metrics for record in records)}
            for told in (self.figures, self.facts)
        )
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
        """``lines`` of the run's history, one a set and an evaluation, against epochs and samples."""
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
                caption=self._drawn_words(),
            )
            for against in ("epoch", "samples_seen")
        ]

    def _drawn_words(self) -> str:
        if len(self.curve) < 2:
            return ""
        solid, *dashed = (self.figures.get(key, key) for key in self.curve)
        return f"Solid {solid}, dashed {' and '.join(dashed)}."

    @staticmethod
    def _points(
        lines: Sequence[Mapping[str, Any]], name: str, key: str, against: str
    ) -> tuple[list[float], list[float]]:
        mine = [line for line in lines if line["set"] == name and key in line["metrics"]]
        return [line[against] for line in mine], [100 * line["metrics"][key] for line in mine]

    def levels(self, records: Sequence[Record]) -> list[tuple[str, float]]:
        """Level lines of the curves, in percent: (words, value)."""
        return []

    def blocks(self, record: Record) -> list[Block]:
        """What the section of one set shows; without any it has no section."""
        return []

    def across(self, records: Sequence[Record], config: Mapping[str, Any]) -> list[Block]:
        """What sets tell together, such as robustness to a shift; ``config`` is the run's."""
        return []

    def pictured(self, samples: Samples) -> set[int]:
        """The rows of the per-image table that pages show as pictures."""
        return set()

    def card(self, details: Mapping[str, Any], samples: Samples, row: int) -> Card | None:
        """A picture with the model's answers, for shelves and for the panel drawn while training; None where a kind has no
        such thing."""
        return None

    def references(self, dataset: str, model: str) -> list[Reference]:
        """Published figures to hold the headline against."""
        return []

    def compare(self, name: str, runs: Sequence[tuple[str, Record]]) -> dict[str, Any]:
        """One set over runs, as plain values; ``runs`` are (label, record)."""
        rows = [{"run": label, "value": record.headline} for label, record in runs]
        return {"dataset": name, "task": self.task, "metric": self.headline, "rows": rows}

    def compare_blocks(self, compared: Mapping[str, Any]) -> list[Block]:
        """What ``compare`` told, as a page shows it."""
        rows = [
            Row([Cell(row["run"], strong=True), Cell(percent(row["value"]), row["value"], strong=True)])
            for row in compared["rows"]
        ]
        columns = [Column("run", False), Column(self.words)]
        return [Table(columns, rows, title=compared["dataset"], small=self.title, sortable=True)]


def interval_cell(interval: Interval | None) -> Cell:
    """An interval drawn, with its ends in words; an empty cell for none."""
    return Cell() if interval is None else Cell(span(interval.low, interval.high), soft=True, interval=interval)


class UnknownKind(Kind):
    """A result of a kind that is not here, such as another version's: its figures are listed as they are."""

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
    """Every kind there is, in the order they are shown: ``KIND`` of each module of ``evaluation/kinds``."""
    package = importlib.import_module("cliplab.evaluation.kinds")
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return tuple(sorted((module.KIND for module in modules), key=lambda kind: (kind.order, kind.name)))


def kind_of(task: str, metrics: Metrics, name: str | None = None) -> Kind:
    """The kind of a result: the one it names, or, for results older than names, the one of its task whose headline is
    among its metrics."""
    named = [kind for kind in kinds() if kind.name == name and kind.headline in metrics]
    fitting = [kind for kind in kinds() if kind.task == task and kind.headline in metrics]
    return (named or fitting or [UnknownKind(task, metrics)])[0]


def kind_of_evaluator(target: str) -> Kind | None:
    """The kind of an evaluator of ours by the dotted name of its class, whose module is called as its kind; None for any
    other class. Nothing is imported for it."""
    module = target.rpartition(".")[0]
    return next((kind for kind in kinds() if module == f"cliplab.evaluation.{kind.name}"), None)


def leaderboard_metrics() -> set[str]:
    return {metric for kind in kinds() for metric in kind.leaderboard}


def headlines() -> set[str]:
    return {kind.headline for kind in kinds()}
