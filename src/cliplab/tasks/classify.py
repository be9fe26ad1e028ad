"""task=classify: the probabilities of labels for images, as a table and a picture."""

import csv
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, TypedDict

from cliplab.rules import Count, Natural
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome, check_images
from cliplab.settings.model_source import model_source


class Options(TypedDict):
    """What configs/task/classify.yaml sets."""

    batch_size: Count
    workers: Count
    split: str
    id_column: str | None
    templates: str | list[str]
    shown: Natural


def check(job: Job) -> None:
    """Raises ConfigError without labels, pictures or a model."""
    labels = [label.strip() for label in given_labels(job.config["labels"])]
    if not labels or not all(labels):
        raise ConfigError(f"labels: {job.config['labels']} has no name, or an empty one; labels=[cat,dog]")
    twice = [label for label, times in Counter(labels).items() if times > 1]
    if twice:
        raise ConfigError(f"labels: {twice[0]!r} is given {labels.count(twice[0])} times; leave out all but one")
    if job.out.is_file():
        raise ConfigError(f"out: {job.out} is a file, and the results go into a folder; name another")
    check_images(job.config)
    model_source(job.config)


def given_labels(labels: Any) -> list[str]:
    """Labels from a list, a file with one on each line, or words joined by commas. Raises ConfigError for anything else."""
    ways = "labels=<file with one on each line> or labels=[cat,dog]"
    if isinstance(labels, list):
        nested = [label for label in labels if isinstance(label, list | dict)]
        if nested:
            raise ConfigError(f"labels: {nested[0]} among the labels is not a name; labels=[cat,dog]")
        return [str(label) for label in labels]
    if not labels:
        raise ConfigError(f"labels: task=classify needs labels; {ways}")
    path = Path(str(labels)).expanduser()
    if path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ConfigError(f"labels: {path} is not a text in UTF-8 ({error.reason}); save it as UTF-8") from error
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            raise ConfigError(f"labels: {path} is empty")
        return names
    if "," in str(labels):
        return [word.strip() for word in str(labels).split(",") if word.strip()]
    raise ConfigError(f"labels: there is no file {labels}; {ways}")


def run(job: Job) -> Outcome:
    """Write predictions.csv and predictions.png into ``out=`` (the run folder). Returns that folder."""
    from cliplab.assembly.collection import given_collection, report_skipped, with_ids
    from cliplab.assembly.model import task_model
    from cliplab.reporting.predictions import prediction_sheet

    config, out = job.config, job.out
    labels, collection = given_labels(config["labels"]), given_collection(config)
    model = task_model(job)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*images skipped.*")
        result = model.classify(collection, labels, templates=config["task"]["templates"])
    out.mkdir(parents=True, exist_ok=True)
    with (out / "predictions.csv").open("w", newline="", encoding="utf8") as file:
        writer, what = csv.writer(file), "score" if result.by_score else "cosine"
        writer.writerow(["id", "label", "probability", *labels, what, *(f"{what} {label}" for label in labels)])
        rows = zip(result.kept, result.best, result.probabilities, result.cosines, strict=True)
        for position, best, shares, cosines in rows:
            numbers = [*shares, cosines[shares.argmax()], *cosines]
            writer.writerow([collection.ids[position], best, *(f"{x:.6f}" for x in (shares.max(), *numbers))])
    if result.independent:
        print(
            "each label has a probability of its own (a sigmoid with the model's bias), so the rows need not sum to 1"
        )
    first = list(zip(result.kept, result.probabilities, strict=True))[: config["task"]["shown"]]
    shown = [(collection[i], collection.ids[i], shares) for i, shares in first]
    if shown:
        prediction_sheet(out / "predictions.png", shown, labels)
    report_skipped(with_ids(model.skipped, collection), len(collection))
    for label, count in Counter(result.best).most_common(10):
        print(f"{count:6} {label}")
    return Outcome(out)
