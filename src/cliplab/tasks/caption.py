"""task=caption: write captions for a folder, a Parquet file or a data set, with a model that has a decoder."""

from collections.abc import Callable
from typing import Literal, TypedDict

from cliplab.evaluation.kinds.captioning import no_captions
from cliplab.rules import Count, NonNegative, Positive, Share
from cliplab.settings.check_captions import writes_captions
from cliplab.settings.config import ConfigError, value_at
from cliplab.settings.job import Job, Outcome, check_images
from cliplab.settings.model_source import config_of_run, model_source


class Options(TypedDict):
    """What configs/task/caption.yaml sets."""

    batch_size: Count
    workers: Count
    split: str
    id_column: str | None
    rows_per_part: Count
    method: Literal["greedy", "beam", "nucleus"]
    beams: Count
    length_penalty: NonNegative
    top_p: Share
    temperature: Positive
    most_tokens: Count | None


def check(job: Job) -> None:
    """Raises ConfigError without pictures or a model."""
    if job.out.is_file():
        raise ConfigError(f"out: {job.out} is a file, and the captions go into a folder; name another")
    check_images(job.config)
    source = model_source(job.config)
    objective = (config_of_run(source) or {}).get("objective")
    if not writes_captions(objective):
        name = str(value_at(objective, "_target_")).rpartition(".")[2]
        raise ConfigError(f"{source.key}: {source.spec}: {no_captions(name)}")


def run(job: Job) -> Outcome:
    """Write captions.csv into ``out=`` (the run folder). After a stop, the same command with the same ``out=`` goes on.
    Returns that folder."""
    from cliplab.assembly.collection import given_collection, report_skipped
    from cliplab.assembly.model import task_model
    from cliplab.embedding.captions import caption_collection, captioner
    from cliplab.objectives.writing import Beam, Greedy, Method, Nucleus

    task, seed = job.config["task"], job.config["seed"]
    methods: dict[str, Callable[[], Method]] = {
        "greedy": Greedy,
        "beam": lambda: Beam(task["beams"], task["length_penalty"]),
        "nucleus": lambda: Nucleus(task["top_p"], task["temperature"], seed),
    }
    method = methods[task["method"]]()
    collection, model = given_collection(job.config), task_model(job)
    captioner(model)  # raises for a model without a decoder
    print(f"{len(collection):,} images; if this is stopped, the same command with out={job.out} goes on")
    most, rows = task["most_tokens"], task["rows_per_part"]
    skipped = caption_collection(model, collection, job.out, method=method, most_tokens=most, rows_per_part=rows)
    report_skipped(skipped, len(collection))
    return Outcome(job.out)
