"""task=prepare: read a source once and write it as shards. After a kill, the same command goes on."""

from pathlib import Path
from typing import Annotated, Literal, TypedDict

from annotated_types import Ge, Le

from cliplab.rules import Count
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome


class Options(TypedDict):
    """What configs/task/prepare.yaml sets."""

    format: Literal["parquet", "webdataset"]
    shortest_side: Count | None
    encoding: Literal["jpeg", "webp", "png"]
    quality: Annotated[int, Ge(1), Le(100)]
    deduplicate: Literal["pixels", "bytes"] | None
    rows_per_shard: Count
    workers: Count | None


def check(job: Job) -> None:
    """Raises ConfigError without a folder to write to, and for a mixture."""
    if not job.config["out"]:
        raise ConfigError("out: task=prepare needs a folder to write to; out=<folder>")
    out = Path(job.config["out"]).expanduser()
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: {out} is a file; name a folder that is empty or new")
    if "sources" in (job.config["data"].get("train") or {}):
        raise ConfigError("data: task=prepare reads one source; prepare the sources of a mixture one by one")


def run(job: Job) -> Outcome:
    """Prepare ``data=…`` into ``out=``. Returns that folder."""
    from cliplab.assembly.preparing import prepare_job

    return prepare_job(job)
