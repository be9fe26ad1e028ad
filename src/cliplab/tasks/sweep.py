"""The leaderboard of a multirun, from the files of its jobs."""

import csv
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from cliplab.reporting.results import read_json


def summarise(folder: Path) -> Path | None:
    """Print the jobs of a multirun, best first, and write summary.csv beside them; failed jobs come last."""
    rows: list[dict[str, Any]] = []
    for job in sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.name.zfill(6)):
        manifest = read_json(job / "manifest.json")
        if manifest is None:
            rows.append({"job": job.name, "status": "failed", "value": None})
            continue
        overrides = yaml.safe_load((job / "overrides.yaml").read_text()) or []
        chosen = manifest.get("optimized_metric") or {}
        row = {"job": job.name, "status": manifest["status"], "value": chosen.get("value")}
        row |= {o.split("=")[0]: o.split("=", 1)[1] for o in overrides}
        finals = manifest.get("final") or {}
        row |= {key: value for key, value in finals.items() if key.endswith(("/acc1", "/acc5"))}
        rows.append(row)
    if not rows:
        return None
    rows.sort(key=lambda row: -row["value"] if row["value"] is not None else float("inf"))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    path = folder / "summary.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    table = Table(*columns, title=f"{folder.name}: best first")
    for row in rows:
        cells = (row.get(column, "") for column in columns)
        table.add_row(*(f"{c:.4f}" if isinstance(c, float) else "" if c is None else str(c) for c in cells))
    Console().print(table)
    print(path)
    return path
