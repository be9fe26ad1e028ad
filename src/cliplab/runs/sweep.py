"""The leaderboard of a multirun, from the files of its jobs."""

import csv
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from cliplab.evaluation.kind import leaderboard_metrics
from cliplab.reporting.summary import write_summary
from cliplab.runs.outcome import job_folders, read_manifest


def summarise(folder: Path) -> Path | None:
    """Print the jobs of a multirun, the best first and failed jobs last. Write summary.csv and summary.html into its folder.
    Returns the path of the page, or None when there is no job."""
    rows: list[dict[str, Any]] = []
    metric, shown = "value", leaderboard_metrics()
    for job in job_folders(folder):
        manifest = {"status": "not started", **read_manifest(job)}
        typed = job / "overrides.yaml"
        overrides = yaml.safe_load(typed.read_text(encoding="utf8")) if typed.is_file() else []
        optimized = manifest.get("optimized_metric") or {}
        value, metric = optimized.get("value"), optimized.get("name") or metric
        finals = manifest.get("final") or {}
        rows.append(
            {"job": job.name, "status": manifest["status"], "value": value}
            | {o.split("=", 1)[0]: o.split("=", 1)[1] for o in overrides if "=" in o}
            | {key: final for key, final in finals.items() if key.rpartition("/")[2] in shown}
        )
    if not rows:
        return None
    rows.sort(key=lambda row: -row["value"] if row["value"] is not None else float("inf"))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    path = folder / "summary.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    fixed = ("job", "status", "value")
    columns = [
        c for c in columns if c in fixed or len({row.get(c) for row in rows}) > 1
    ]  # only what differs between jobs
    table = Table(title=f"{folder.name}: best first")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = (row.get(column, "") for column in columns)
        table.add_row(*(f"{c:.4f}" if isinstance(c, float) else "" if c is None else str(c) for c in cells))
    Console().print(table)
    print(path)
    return write_summary(folder, [{key: row[key] for key in columns if key in row} for row in rows], metric)
