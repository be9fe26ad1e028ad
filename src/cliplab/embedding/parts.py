"""The parts of a table that is being written, so that a stopped job can continue."""

from pathlib import Path


def begin_parts(parts: Path, job: str, differ: str) -> None:
    """Make the folder of the parts, or find it again. ``job`` identifies the job. Raises ValueError, which tells
    with what the parts ``differ`` and what to do, when they come from another one."""
    parts.mkdir(parents=True, exist_ok=True)
    mark = parts / "job"
    if mark.is_file() and mark.read_text() != job:
        raise ValueError(f"out: {parts} was started with another {differ} or delete it")
    mark.write_text(job)
