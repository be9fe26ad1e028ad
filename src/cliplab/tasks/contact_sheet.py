"""debug=data: the first samples as the towers will see them, on one picture and one page; then stop."""

from cliplab.settings.job import Job, Outcome


def run(job: Job) -> Outcome:
    """Write ``contact_sheet.png`` and ``contact_sheet.html`` into the run folder. Returns the page's path."""
    from cliplab.assembly.first_samples import show_first_samples

    return show_first_samples(job)
