"""task=train: pre-training with evaluation every epoch, results and a report."""

from cliplab.settings.job import Job, Outcome


def run(job: Job) -> Outcome:
    """Train, then write results and report into the run folder. Returns the report and the metric a sweep maximises."""
    from cliplab.assembly.pretraining import train

    return train(job)
