"""The leaderboard of a sweep on a terminal of 80 columns."""

from rich.console import Console
from rich.table import Table

from cliplab.reporting.sweep.verdict import Sweep, counts, sentences, with_spread
from cliplab.text import shortened

MOST, MOST_ERRORS, LONGEST = 15, 5, 160  # settings, errors, characters of an error


def print_leaderboard(sweep: Sweep, console: Console | None = None) -> None:
    """The best settings with their spread over seeds, what the differences mean, and what failed."""
    console = console or Console()
    narrow = min(console.width, 100)
    console.print(f"{sweep.title}: {counts(sweep.jobs)}", markup=False, highlight=False, soft_wrap=True)
    if sweep.settings:
        table = Table(title=sweep.metric.words, title_justify="left", width=narrow, expand=False)
        table.add_column("#", justify="right")
        table.add_column("what differs", overflow="fold", ratio=1)
        table.add_column("mean ± deviation", justify="right", no_wrap=True)
        table.add_column("seeds", justify="right", no_wrap=True)
        for place, setting in enumerate(sweep.settings[:MOST], 1):
            table.add_row(str(place), setting.label, with_spread(setting), str(len(setting.figures)))
        console.print(table, markup=False)
    more = len(sweep.settings) - MOST
    lines = [f"… and {more} more in summary.csv"] if more > 0 else []
    lines += sentences(sweep)
    failed = sweep.unfinished
    lines += [
        f"job {job.name} {job.status}{': ' if job.error else ''}{shortened(job.error, LONGEST)}"
        for job in failed[:MOST_ERRORS]
    ]
    if len(failed) > MOST_ERRORS:
        lines.append(f"… and {len(failed) - MOST_ERRORS} more that did not finish; the page lists them")
    for line in lines:
        console.print(line, width=narrow, markup=False, highlight=False)
