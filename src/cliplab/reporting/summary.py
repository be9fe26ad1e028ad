"""summary.html of a multirun: the leaderboard, and the value against the settings that were varied."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliplab.evaluation.kind import leaderboard_metrics
from cliplab.reporting.pages import render
from cliplab.reporting.plots import parallel, scatter

FIXED = ("job", "status", "value")


def _number(text: Any) -> Any:
    """A typed value as a number, if it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except (TypeError, ValueError):
            continue
    return text


def write_summary(folder: Path, rows: Sequence[dict[str, Any]], metric: str) -> Path:
    """Write ``summary.html``. ``rows`` are the jobs, the best first, with the keys ``job status value <settings> <logged
    figures>``; the names of figures have a slash. Jobs without a value are listed in the table only."""
    done = [row for row in rows if isinstance(row.get("value"), float) and math.isfinite(row["value"])]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    settings = [c for c in columns if c not in FIXED and c.rpartition("/")[2] not in leaderboard_metrics()]
    varied = {c: [_number(row.get(c, "")) for row in done] for c in settings}
    varied = {c: values for c, values in varied.items() if len(set(values)) > 1}
    values = [row["value"] for row in done]
    plots = [scatter(name, column, values, metric) for name, column in varied.items()]
    page = render(
        "summary.html.jinja",
        name=folder.name,
        metric=metric,
        rows=rows,
        columns=[c for c in columns if c not in FIXED],
        settings=settings,
        reports={row["job"] for row in rows if (folder / row["job"] / "report.html").is_file()},
        plots=plots,
        parallel=parallel(varied, values) if len(varied) > 1 else "",
    )
    path = folder / "summary.html"
    path.write_text(page, encoding="utf8")
    return path
