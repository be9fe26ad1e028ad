"""summary.csv and summary.html of a sweep."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cliplab.evaluation.blocks import Cell, Column, Interval, Row, Table
from cliplab.evaluation.kind import leaderboard_metrics
from cliplab.files import whole_file
from cliplab.reporting.pages import render
from cliplab.reporting.sweep import drawings
from cliplab.reporting.sweep.importance import METHOD, importances
from cliplab.reporting.sweep.jobs import SEED, JobRecord, Setting, number, pareto_front, readable, short_names
from cliplab.reporting.sweep.verdict import Sweep, counts, difference, edges, figure, p_against_best

MANY = 25  # rows from which a table scrolls and can be searched
INTERVALS = {False: "Student", True: "Student, on the logit scale, which keeps shares within 0 and 1"}
FEW = 12  # unfinished jobs that are shown at once
MOST_OTHERS = 6  # further figures shown beside the one that jobs are ranked by


def other_metrics(sweep: Sweep) -> list[str]:
    """The further metrics of the search, then the headlines of what was evaluated."""
    asked = [metric.name for metric in sweep.metrics[1:]]
    logged = dict.fromkeys(name for job in sweep.finished for name in job.figures)
    known = [name for name in logged if name.rpartition("/")[2] in leaderboard_metrics()]
    return [name for name in dict.fromkeys([*asked, *known]) if name != sweep.metric.name]


def write_csv(path: Path, sweep: Sweep) -> None:
    """One line a job, best first: what it is, what was typed, and its figures. ``value_step`` is the step of the figures of
    a job that did not finish."""
    names = other_metrics(sweep)
    keys = list(dict.fromkeys(key for job in sweep.jobs for key in job.typed))
    place = {id(job): i for i, setting in enumerate(sweep.settings, 1) for job in setting.jobs}
    rows = []
    for job in [*sweep.finished, *sweep.others]:
        figures: dict[str, Any] = {name: job.figures.get(name) for name in names}
        figures |= {"metric": sweep.metric.name, "value": job.figures.get(sweep.metric.name)}
        facts = {"job": job.name, "status": job.status, "setting": place.get(id(job))}
        at = {"value_step": job.figures_step, "step": job.step, "error": job.error, "folder": str(job.folder)}
        rows.append({**facts, **job.typed, **figures, **at})
    columns = ["job", "status", "setting", *keys, "metric", "value", *names, "value_step", "step", "error", "folder"]
    with whole_file(path, newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _cell(value: float | None, strong: bool = False) -> Cell:
    return Cell() if value is None else Cell(figure(value), value, strong=strong)


def _settings_table(sweep: Sweep) -> Table:
    """One row a setting. What no setting has, such as a deviation where each has one seed, has no column."""
    keys = [key for key in sweep.differing if key != SEED]
    names, others = short_names(keys), other_metrics(sweep)[:MOST_OTHERS]
    seeds = any(setting.spread.number > 1 for setting in sweep.settings)
    interval, p_values = _interval_cells(sweep.settings), p_against_best(sweep.settings)
    tested = any(p is not None for p in p_values)
    rows = []
    for place, (setting, p) in enumerate(zip(sweep.settings, p_values, strict=True), 1):
        found = setting.spread
        cells = [Cell(str(place), place)]
        cells += [_setting_cell(setting.values.get(key, "")) for key in keys] or [Cell(setting.label)]
        cells.append(_cell(found.mean, strong=True))
        cells += [_cell(found.deviation), interval[place - 1], Cell(str(found.number), found.number)] if seeds else []
        cells += [_cell(_mean_of(setting.jobs, name)) for name in others]
        cells += [Cell("" if p is None else f"{p:.2g}", p, soft=True)] if tested else []
        rows.append(Row(cells, "best" if place == 1 else ""))
    columns = [Column("#"), *([Column(names[key]) for key in keys] or [Column("jobs", False)])]
    columns.append(Column(sweep.metric.name))
    columns += [Column("deviation"), Column("95 % interval", False), Column("seeds")] if seeds else []
    columns += [Column(metric_title(name)) for name in others]
    columns += [Column("p against the best")] if tested else []
    return Table(columns, rows, sortable=True, scrolls=len(rows) > MANY)


def _interval_cells(settings: Sequence[Setting]) -> list[Cell]:
    """The intervals of the means, drawn on one scale."""
    ends = [end for s in settings for end in (s.spread.low, s.spread.high, s.spread.mean) if end is not None]
    low, width = min(ends), (max(ends) - min(ends)) or 1.0
    cells = []
    for found in (setting.spread for setting in settings):
        if found.low is None or found.high is None:
            cells.append(Cell())
            continue
        shares = [(value - low) / width for value in (found.mean, found.low, found.high)]
        cells.append(
            Cell(f"{figure(found.low)} – {figure(found.high)}", found.mean, soft=True, interval=Interval(*shares))
        )
    return cells


def metric_title(name: str) -> str:
    """The last two parts of a logged name."""
    return "/".join(name.split("/")[-2:])


def _setting_cell(text: str) -> Cell:
    value = number(text)
    return Cell(readable(text) or "–", value, soft=not text)


def _mean_of(jobs: Sequence[JobRecord], name: str) -> float | None:
    values = [job.figures[name] for job in jobs if name in job.figures]
    return sum(values) / len(values) if values else None


def _varied(sweep: Sweep, jobs: Sequence[JobRecord]) -> dict[str, list[str]]:
    """By short name the values of the jobs, for what has more than one."""
    keys = [key for key in sweep.differing if key != SEED]
    columns = {name: [job.typed.get(key, "") or "–" for job in jobs] for key, name in short_names(keys).items()}
    return {name: texts for name, texts in columns.items() if len(set(texts)) > 1}


def _importance_table(shares: dict[str, float]) -> Table:
    rows = [
        Row([Cell(name, strong=True), Cell(f"{share:.0%}", share), Cell(bar=share)]) for name, share in shares.items()
    ]
    return Table([Column("setting", False), Column("explains"), Column("", False)], rows)


def _front(sweep: Sweep) -> dict[str, Any]:
    """The Pareto front of the first two metrics, and its jobs; empty for one metric."""
    if len(sweep.metrics) < 2:
        return {}
    best = pareto_front(sweep.jobs, sweep.metrics)
    first, second = sweep.metrics[:2]

    def points(jobs: Sequence[JobRecord]) -> list[tuple[float, float]]:
        pairs = [(first.of(job), second.of(job)) for job in jobs]
        return [(x, y) for x, y in pairs if x is not None and y is not None]

    keys = short_names(sweep.differing)
    rows = []
    for job in sorted(best, key=lambda job: first.badness(first.of(job) or 0.0)):
        values = [Cell(job.name), *(_setting_cell(job.typed.get(key, "")) for key in keys)]
        rows.append(Row([*values, *(_cell(metric.of(job), strong=True) for metric in sweep.metrics)]))
    columns = [Column("job", False), *map(Column, keys.values()), *(Column(metric.name) for metric in sweep.metrics)]
    plot = drawings.front(points(sweep.finished), points(best), (first.words, second.words)) if len(best) > 0 else ""
    return {"plot": plot, "table": Table(columns, rows, sortable=True, scrolls=len(rows) > MANY), "count": len(best)}


def _link(folder: Path, job: JobRecord) -> str:
    """The address of a job's report from the page, empty when it has none."""
    report = job.folder / "report.html"
    return os.path.relpath(report, folder).replace(os.sep, "/") if report.is_file() else ""


def write_page(
    folder: Path, sweep: Sweep, curves: Sequence[drawings.Series] = (), pace: Mapping[str, Any] | None = None
) -> Path:
    """Write ``summary.html`` into the folder and return its path. ``pace`` is the section on how fast settings learn."""
    done = sweep.finished
    values = [value for job in done if (value := sweep.metric.of(job)) is not None]
    varied = _varied(sweep, done)
    names = other_metrics(sweep)[:MOST_OTHERS]
    keys = short_names(sweep.differing)
    many_jobs = len(done) > 1 and len(set(values)) > 1
    listed = [
        {"job": job, "link": _link(folder, job), "typed": [job.typed.get(key, "") for key in keys]}
        | {"figures": [job.figures.get(name) for name in (sweep.metric.name, *names)]}
        for job in [*done, *sweep.others]
    ]
    page = render(
        "summary.html.jinja",
        sweep=sweep,
        counts=counts(sweep.jobs),
        best=sweep.settings[0] if sweep.settings else None,
        difference=difference(sweep.settings),
        interval=INTERVALS[bool(sweep.settings and sweep.settings[0].share)],
        edges=edges(sweep),
        settings=_settings_table(sweep) if sweep.settings else None,
        importance=_importance_table(shares) if (shares := importances(varied, values)) else None,
        method=METHOD,
        plots=[drawings.against(name, texts, values, sweep.metric.name) for name, texts in varied.items()],
        parallel=drawings.parallel(varied, values, sweep.metric.name, sweep.metric.maximise)
        if len(varied) > 1 and many_jobs
        else "",
        curves=drawings.learning_curves(curves, sweep.metric.name) if curves else "",
        front=_front(sweep),
        pace=pace,
        listed=listed,
        columns=[*keys.values(), sweep.metric.name, *map(metric_title, names)],
        unfinished=[entry for entry in listed if entry["job"] in sweep.unfinished],
        many=MANY,
        few=FEW,
        figure=figure,
        number=number,
        readable=readable,
    )
    path = folder / "summary.html"
    with whole_file(path) as file:
        file.write(page)
    return path
