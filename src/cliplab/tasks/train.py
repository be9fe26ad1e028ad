"""task=train: pre-training with evaluation every epoch, results and a report."""

from cliplab.settings.check_captions import check_captioning
from cliplab.settings.job import Job, Outcome


def check(job: Job) -> None:
    """Raises ConfigError for a set that the model cannot be evaluated on."""
    check_captioning(job.config["zeroshot"], job.config["objective"])


def run(job: Job) -> Outcome:
    """Train, then write results and report into the run folder. Returns the report and the metric a sweep maximises."""
    from cliplab.assembly.pretraining import train

    return train(job)
