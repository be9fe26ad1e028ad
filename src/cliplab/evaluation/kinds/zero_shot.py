"""How zero-shot classification is shown."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from cliplab.evaluation.blocks import (
    Answer,
    Beside,
    Block,
    Calibration,
    Card,
    Cell,
    Column,
    Note,
    Pair,
    Pairs,
    Row,
    Shelf,
    Table,
)
from cliplab.evaluation.gallery import confused_pairs, gallery_rows, mistaken_for, rows_with_pictures
from cliplab.evaluation.kind import Details, Kind, Metrics, Record, Samples, Verdict, interval_cell
from cliplab.evaluation.matched import compare_hits, hits_blocks
from cliplab.evaluation.references import Reference, references_for
from cliplab.evaluation.robustness import groups_of, shifted_imagenet, styles
from cliplab.evaluation.words import count, percent, points, span

STRIP = "A cross-section"
SCORE_COLUMNS = ("per-class recall", "mean rank", "calibration error", "chance", "images")


class Template(TypedDict):
    """The accuracy of one template alone."""

    template: str
    acc1: float
    acc5: float


class ZeroShotDetails(Details, total=False):
    """``counts`` of each class are those of ``RankCounts``. ``calibration`` are the bins of ``CalibrationBins``.
    ``confusions`` are label, answer and count, the most frequent first. ``groups`` are images and hits of named parts.
    ``per_template`` is each template alone, in thorough evaluations. ``sigmoid`` is the scale and the bias of the
    probabilities, when they are not a softmax."""

    class_names: list[str]
    templates: list[str]
    counts: list[list[int]]
    calibration: list[list[float]]
    confusions: list[dict[str, int]]
    groups: dict[str, tuple[int, int]]
    per_template: list[Template]
    sigmoid: dict[str, float]


class ZeroShot(Kind):
    name, title, task = "zero_shot", "Zero-shot classification", "zeroshot_classification"
    figures = {"acc1": "top-1", "acc5": "top-5", "mean_per_class_recall": "per-class recall"}
    leaderboard = curve = ("acc1", "acc5")
    panel = True
    order = 0
    compared_under = "sets"

    def say(self, metrics: Metrics) -> str:
        return f"top-1 {metrics['acc1']:.2%}, top-5 {metrics['acc5']:.2%}"

    def references(self, dataset: str, model: str) -> list[Reference]:
        return references_for(dataset, model)

    def levels(self, records: Sequence[Record]) -> list[tuple[str, float]]:
        """Published figures for the first set, and chance."""
        found = [(words, 100 * acc1) for words, acc1 in self._published(records[0])] if records else []
        return found + [("chance", 100 * r.metrics["chance"]) for r in records[:1] if "chance" in r.metrics]

    def _published(self, record: Record) -> list[tuple[str, float]]:
        """Up to three published figures: the paper's first, then the best, each at least six points from the others."""
        chosen: list[Reference] = []
        rows = self.references(record.dataset, record.model)
        for row in sorted(rows, key=lambda r: (not r.source.startswith("Radford"), -r.acc1)):
            if all(abs(row.acc1 - other.acc1) > 0.06 for other in chosen):
                chosen.append(row)
        return [(f"{r.model}, {r.trained_on}", r.acc1) for r in chosen[:3]]

    def verdict(self, record: Record) -> Verdict:
        m, published, samples = record.metrics, self._published(record), record.samples()
        chance = percent(m["chance"], 2)
        against = f"that is {m['acc1'] / m['chance']:,.0f} times chance ({chance})"
        if m["acc1_ci_low"] <= m["chance"]:
            against = f"that does not exclude chance ({chance})"
        sentence = (
            f"{count(m['images'])} images, {count(m['classes'])} names. 95 % interval "
            f"{span(m['acc1_ci_low'], m['acc1_ci_high'])}; {against}. Top-5 {percent(m['acc5'])}."
        )
        if published:
            sentence += f" Published: {'; '.join(f'{words}: {percent(acc1)}' for words, acc1 in published)}."
        strip = gallery_rows(samples)[STRIP] if "thumbnail" in samples and record.details.get("class_names") else []
        cards = [self.card(record.details, samples, i) for i in strip]
        return Verdict(m["acc1"], "zero-shot top-1", sentence, self.interval(record), published, cards)

    def scores(self, records: Sequence[Record]) -> list[Block]:
        """A table of every set, its named parts, and published figures of the architecture."""
        rows: list[Row] = []
        for record in records:
            m, interval = record.metrics, interval_cell(self.interval(record))
            cells = [Cell(record.dataset, strong=True), Cell(percent(m["acc1"]), strong=True), interval]
            cells += [Cell(percent(m.get(key))) for key in ("acc5", "mean_per_class_recall")]
            cells += [
                Cell(f"{m[key]:{form}}" if key in m else "") for key, form in (("mean_rank", ".1f"), ("ece", ".3f"))
            ]
            rows.append(Row([*cells, Cell(percent(m.get("chance"), 2)), Cell(count(m["images"]))]))
            rows += self._below(record)
        columns = [Column("set", False), Column("top-1"), Column("95 % interval", False), Column("top-5")]
        return [Table([*columns, *(Column(title) for title in SCORE_COLUMNS)], rows)] if rows else []

    def _below(self, record: Record) -> list[Row]:
        m, rows = record.metrics, []
        if m.get("acc1_ties_lost") != m.get("acc1_ties_won"):
            words = f"to {percent(m['acc1_ties_won'])}; ties go to the lower class index"
            rows.append(
                Row([Cell("with ties lost or won"), Cell(percent(m["acc1_ties_lost"])), Cell(words, span=7)], "sub")
            )
        for group in groups_of(record):
            interval = Cell(span(group.interval.low, group.interval.high) if group.interval else "")
            images = Cell(count(group.images) if group.images else "")
            rows.append(Row([Cell(group.name), Cell(percent(group.acc1)), interval, Cell(span=5), images], "sub"))
        for r in self.references(record.dataset, record.model):
            name = Cell(f"published: {r.model}, {r.trained_on}")
            rows.append(Row([name, Cell(percent(r.acc1)), Cell(r.source, span=7)], "reference"))
        return rows

    def across(self, records: Sequence[Record], config: Mapping[str, Any]) -> list[Block]:
        return [*shifted_imagenet(records), *(block for record in records for block in styles(record, config))]

    def pictured(self, samples: Samples) -> set[int]:
        return rows_with_pictures(samples)

    def card(self, details: Mapping[str, Any], samples: Samples, row: int) -> Card:
        names, label, rank = details["class_names"], samples["label"][row], samples["rank"][row]
        thumbnails = samples.get("thumbnail")
        answers = [
            Answer(names[c], p, f"{100 * p:.0f} %" if p >= 0.005 else "< 1 %", names[c] == names[label])
            for c, p in zip(samples["top5"][row], samples["top5_probability"][row], strict=True)
        ]
        note = f"the right name comes at place {rank + 1}" if rank >= 5 else ""
        place = f"place {rank + 1} of {len(names)}"
        return Card(thumbnails[row] if thumbnails else None, names[label], rank == 0, answers, place, note)

    def blocks(self, record: Record) -> list[Block]:
        """Galleries, confusions, calibration, prompts and classes."""
        details, samples = record.details, record.samples()
        found: list[Block] = []
        if details.get("class_names") and "thumbnail" in samples:
            shelves = gallery_rows(samples).items()
            found += [Shelf(title, [self.card(details, samples, i) for i in rows]) for title, rows in shelves if rows]
            found += _confusions(details["class_names"], samples)
        calibration = details.get("calibration")
        reliability = [Calibration(calibration, record.metrics["ece"])] if calibration else []
        beside: list[list[Block]] = [[*reliability, *_sigmoid(details)]] if calibration else []
        prompts = _prompts(details, record.metrics)
        found.append(Beside([*beside, prompts] if prompts else beside))
        if details.get("class_names") and details.get("counts"):
            found.append(_classes(details["class_names"], details["counts"], mistaken_for(samples) if samples else {}))
        return found

    def compare(self, name: str, runs: Sequence[tuple[str, Record]]) -> dict[str, Any]:
        return compare_hits(name, runs)

    def compare_blocks(self, compared: Mapping[str, Any]) -> list[Block]:
        return hits_blocks(compared)


def _sigmoid(details: Mapping[str, Any]) -> list[Block]:
    """A sentence about probabilities that are not a softmax."""
    sigmoid = details.get("sigmoid")
    if not sigmoid:
        return []
    sign = "+" if sigmoid["bias"] >= 0 else "−"
    formula = f"sigmoid({sigmoid['scale']:.4g} × cosine {sign} {abs(sigmoid['bias']):.4g})"
    return [
        Note(
            f"Each probability is {formula}, as the model was trained. Each name is independent of the others, so the "
            "probabilities of one picture need not sum to 1.",
            soft=True,
        )
    ]


def _confusions(names: Sequence[str], samples: Samples) -> list[Block]:
    pictures = samples["thumbnail"]
    pairs = [
        Pair(pictures[p.row], None if p.other is None else pictures[p.other], names[p.label], names[p.answer], p.times)
        for p in confused_pairs(samples)
    ]
    return [Pairs("Most confused", pairs, "the picture, and one of what it was taken for")] if pairs else []


def _prompts(details: Mapping[str, Any], metrics: Metrics) -> list[Block]:
    """Every template alone, the best first, and the gain of the ensemble over the best and over the mean."""
    alone = sorted(details.get("per_template") or [], key=lambda row: -row["acc1"])
    if not alone:
        templates = list(details.get("templates") or [])
        more = f"and {len(templates) - 7} more" if len(templates) > 7 else ""
        return [Note(more, "Prompts", codes=templates[:7])] if templates else []
    together, mean = metrics["acc1"], sum(row["acc1"] for row in alone) / len(alone)
    sentence = (
        f"Together {percent(together)}: {points(together - alone[0]['acc1'])} points against the best alone, "
        f"{points(together - mean)} against their mean."
    )
    best = Row(
        [Cell("all together", strong=True), Cell(percent(together), together, strong=True), Cell(bar=together)], "best"
    )
    rows = [Row([Cell(t["template"]), Cell(percent(t["acc1"]), t["acc1"]), Cell(bar=t["acc1"])]) for t in alone]
    columns = [Column("template", False), Column("top-1"), Column("", False)]
    note = Note(sentence, "Prompts", f"{len(alone)} templates")
    return [note, Table(columns, [best, *rows], sortable=True, scrolls=True)]


def _classes(names: Sequence[str], counts: Sequence[Sequence[int]], mistaken: Mapping[int, tuple[int, int]]) -> Table:
    """A row for each class with images, the worst first."""
    shown = [(i, c) for i, c in enumerate(counts) if c[0]]
    shown.sort(key=lambda row: (row[1][1] / row[1][0], -row[1][3] / row[1][0]))
    rows = []
    for i, (images, hits, top5, ranks, *_) in shown:
        answer, times = mistaken.get(i, (None, 0))
        taken = Cell("" if answer is None else names[answer], note=f"{times} times" if times > 1 else "")
        shares = [Cell(percent(n / images, 0), round(n / images, 4)) for n in (hits, top5)]
        rows.append(Row([Cell(names[i]), Cell(str(images)), *shares, Cell(f"{ranks / images + 1:.1f}"), taken]))
    columns = [Column("class", False), Column("images"), Column("top-1"), Column("top-5"), Column("mean rank")]
    titles = [*columns, Column("most often taken for", False)]
    return Table(titles, rows, "Classes", "the worst first", sortable=True, scrolls=True, searched="classes")


KIND = ZeroShot()
