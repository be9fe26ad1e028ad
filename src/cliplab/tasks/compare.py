"""task=compare: several runs beside each other."""

from cliplab.reporting.comparison import write_comparison
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import named_run


def run(job: Job) -> Outcome:
    """Compare the run folders of ``run=[<dir>,<dir>,…]``. Returns the page's path."""
    named = job.config["run"]
    if not isinstance(named, list) or len(named) < 2:
        raise ConfigError("run: task=compare needs two run folders or more; run=[<dir>,<dir>]")
    return Outcome(write_comparison(job.run_dir, [named_run("run", one) for one in named]))
