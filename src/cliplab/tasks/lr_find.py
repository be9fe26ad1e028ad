"""debug=lr_find: the loss while the learning rate rises, as a page with a suggested rate; then stop."""

from typing import Annotated, TypedDict

from annotated_types import Ge

from cliplab.rules import Positive
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome


class Options(TypedDict):
    low: Positive
    high: Positive
    steps: Annotated[int, Ge(13)]  # fewer show no curve


def check(job: Job) -> None:
    """Raises ConfigError for a range that is none."""
    low, high = job.config["task"]["low"], job.config["task"]["high"]
    if low >= high:
        raise ConfigError(f"task.low: {low:g} must be below task.high={high:g}; the rate rises from one to the other")


def run(job: Job) -> Outcome:
    """Write ``lr_find.json`` and ``lr_find.html`` into the run folder. Returns the page's path."""
    from cliplab.assembly.lr_find import find_rate

    return find_rate(job)
