"""debug=data: draw the first samples as the towers see them, as a picture and a page, and stop."""

from cliplab.settings.job import Job, Outcome


def run(job: Job) -> Outcome:
    """Write ``contact_sheet.png`` and ``contact_sheet.html`` into the run folder. Returns the page's path."""
    from cliplab.assembly.first_samples import show_first_samples

    return show_first_samples(job)
