"""task=embed: write a table of embeddings of a folder, a Parquet file or a data set."""

from pathlib import Path
from typing import Any, TypedDict

from cliplab.rules import Count
from cliplab.settings.config import ConfigError, did_you_mean
from cliplab.settings.job import Job, Outcome, check_images
from cliplab.settings.model_source import model_source

FORMATS = {"parquet": ".parquet", "numpy": ".npz"}


class Options(TypedDict):
    """What configs/task/embed.yaml sets."""

    batch_size: Count
    workers: Count
    split: str
    id_column: str | None
    rows_per_part: Count


def check(job: Job) -> None:
    """Raises ConfigError without pictures or a model, and for an unknown format of the table."""
    out_path(job.config)
    check_images(job.config)
    model_source(job.config)


def absolute(images: Any) -> Any:
    """Existing paths as absolute paths, which a later command can use in any folder. Other names stay as they are."""
    if isinstance(images, list):
        return [absolute(image) for image in images]
    path = Path(str(images)).expanduser()
    return str(path.resolve()) if path.exists() else str(images)


def out_path(config: dict[str, Any]) -> Path:
    """The path of the table. Raises ConfigError for a format or a suffix other than those of Parquet and NumPy."""
    form, out = config["format"], config["out"]
    if form is not None and form not in FORMATS:
        raise ConfigError(
            f"format: task=embed writes {' or '.join(FORMATS)}, not {form!r}{did_you_mean(form, FORMATS)}"
        )
    suffix = FORMATS[form or "parquet"]
    if out is None:
        return Path(config["paths"]["run"]) / f"embeddings{suffix}"
    path = Path(out).expanduser()
    if path.suffix not in FORMATS.values() or (form is not None and path.suffix != suffix):
        raise ConfigError(f"out: {path} must end in {suffix if form else ' or '.join(FORMATS.values())}")
    return path


def run(job: Job) -> Outcome:
    """Write the table. After a stop, the same command with the same ``out=`` goes on. Returns the path of the table."""
    from cliplab.assembly.collection import given_collection, report_skipped
    from cliplab.assembly.model import task_model
    from cliplab.embedding.table import embed_collection
    from cliplab.runs.folder import model_name

    config = job.config
    out, collection = out_path(config), given_collection(config)
    model = task_model(job)
    model.check_trained("image_embeds")
    print(f"{len(collection):,} images into {out}; if this is stopped, the same command with out={out} goes on")
    task, images = config["task"], absolute(config["images"])
    facts = {"model": model_name(model.source), "source": absolute(model.source), "images": images}
    facts |= {"split": task["split"], "id_column": task["id_column"]}
    result = embed_collection(model, collection, out, rows_per_part=task["rows_per_part"], facts=facts)
    if result["already"]:
        print(f"{result['already']:,} rows were already there")
    report_skipped(result["skipped_ids"], len(collection))
    return Outcome(out)
