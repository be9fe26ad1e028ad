"""task=embed: a folder, a Parquet file or a data set to a table of embeddings."""

from pathlib import Path
from typing import Any

from cliplab.embedding.collection import Collection, open_collection
from cliplab.embedding.table import FORMATS, embed_collection
from cliplab.settings.config import ConfigError, did_you_mean
from cliplab.settings.job import Job
from cliplab.settings.loading import model_name, task_model


def given_collection(config: dict[str, Any]) -> Collection:
    """The collection of ``images=``. Raises ConfigError when it is not given, ValueError when it cannot be read."""
    task = config["task"]
    if not config["images"]:
        raise ConfigError(f"images: task={task['name']} needs pictures; images=<folder, file, Parquet or data set>")
    return open_collection(config["images"], split=task["split"], id_column=task["id_column"])


def absolute(images: Any) -> Any:
    """Paths that mean the same wherever a later command is typed; names of the hub stay."""
    if isinstance(images, list):
        return [absolute(image) for image in images]
    path = Path(str(images)).expanduser()
    return str(path.resolve()) if path.exists() else str(images)


def told_skipped(skipped: dict[str, int], count: int) -> None:
    """One line when images were left out."""
    if skipped:
        reasons = ", ".join(f"{reason} {n}" for reason, n in skipped.items())
        print(f"{sum(skipped.values())} of {count} images skipped: {reasons}")


def out_path(config: dict[str, Any]) -> Path:
    """Where the table goes. Raises ConfigError for a format or a suffix that is neither Parquet's nor NumPy's."""
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


def run(job: Job) -> None:
    """Write the table and print its path. Stopped, the same command with the same ``out=`` goes on."""
    config, cfg, overrides = job.config, job.composed, job.typed
    out, collection = out_path(config), given_collection(config)
    model = task_model(config, cfg, overrides)
    print(f"{len(collection):,} images into {out}; stopped, the same command with out={out} goes on")
    task, images = config["task"], absolute(config["images"])
    facts = {"model": model_name(model.source), "source": model.source, "images": images}
    facts |= {"split": task["split"], "id_column": task["id_column"]}
    result = embed_collection(model, collection, out, rows_per_part=task["rows_per_part"], facts=facts)
    if result["already"]:
        print(f"{result['already']:,} rows were there already")
    told_skipped(result["skipped"], len(collection))
    print(out)
