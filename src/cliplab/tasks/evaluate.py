"""task=evaluate: evaluate one or several models on zero-shot sets. Of a checkpoint, only the name must be given."""

import copy
import re
from pathlib import Path

from cliplab.settings.check_captions import check_captioning
from cliplab.settings.config import resolved
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import ModelSource, config_of_run, model_sources


def check(job: Job) -> None:
    """Raises ConfigError without a model, when one of several models is missing, or for a typed set that a model cannot be
    evaluated on."""
    sources = model_sources(job.config)
    if "zeroshot" in {key.split(".")[0] for key in job.typed_keys}:
        for source in sources:
            check_captioning(job.config["zeroshot"], (config_of_run(source) or {}).get("objective"))


def run(job: Job) -> Outcome:
    """Evaluate the named model, and write results and a report. Several models, as in ``ckpt=[a,b]``, get a folder and a
    report each, and one comparison."""
    from cliplab.assembly.evaluating import evaluate
    from cliplab.reporting.comparison import write_comparison

    sources = model_sources(job.config)
    if len(sources) == 1:
        return evaluate(job, sources[0])
    folders = []
    for number, source in enumerate(sources, start=1):
        print(f"{number} of {len(sources)}: {source.spec}")
        one = _job_of_one(job, source, number)
        evaluate(one, source)
        folders.append(one.run_dir)
    return Outcome(write_comparison(job.run_dir, folders))


def _job_of_one(job: Job, source: ModelSource, number: int) -> Job:
    """The same job for one of several models, in a folder within this job's folder."""
    composed = copy.deepcopy(job.composed)
    composed.ckpt = composed.run = composed.pretrained = None
    composed[source.key] = source.spec
    slug = re.sub(r"[^\w.-]+", "-", Path(source.spec).stem).strip("-.")
    composed.paths.run = str(job.run_dir / f"{number}-{slug}")
    return Job(resolved(composed), composed, job.typed)
