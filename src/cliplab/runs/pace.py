"""The evaluations of a run against images seen and seconds of training, read from its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cliplab.evaluation.kind import kind_of
from cliplab.reporting.results import read_history
from cliplab.reporting.sweep.jobs import Metric, Setting, label_of, short_names
from cliplab.reporting.sweep.pace import Pace, Point
from cliplab.reporting.sweep.typed import readable_yaml
from cliplab.runs.jobs import curve_of

RATE = "train/images_per_second"


def points_of(folder: Path, metric: Metric) -> list[Point]:
    """The evaluations of a figure. The seconds are those of training alone: images over the logged rates."""
    found = []
    for line in read_history(folder):
        kind = kind_of(line.get("task", "zeroshot_classification"), line["metrics"])
        for name, value in line["metrics"].items():
            if kind.logged(line["set"], name) == metric.name:
                found.append((line["step"], line["samples_seen"], value))
    steps, rates = curve_of(folder, RATE)
    if not found or not steps:
        return []
    per_step = max(images / step for step, images, _ in found if step) if any(step for step, *_ in found) else 0
    gaps = np.diff([0, *steps]) * per_step / np.asarray(rates)  # seconds from one logged step to the next
    elapsed = np.cumsum(gaps)
    last = per_step / rates[-1]  # of a step after the last logged one

    def seconds(step: int) -> float:
        return float(np.interp(step, [0, *steps], [0, *elapsed])) + max(0, step - steps[-1]) * last

    return [Point(images, seconds(step), value) for step, images, value in sorted(found)]


def paces_of(settings: Sequence[Setting], metric: Metric) -> list[Pace]:
    """Of each setting, the best first. A label has only so many keys, from the first on, as tell the settings apart."""
    labels = [setting.label for setting in settings]
    names = short_names(list(settings[0].values)) if settings else {}
    for number in range(1, len(names)):
        fewer = [label_of(dict(list(setting.values.items())[:number]), names) for setting in settings]
        if all(fewer) and len(set(fewer)) == len(settings):
            labels = fewer
            break
    runs = [[points_of(job.folder, metric) for job in setting.jobs] for setting in settings]
    return [Pace(label, of_setting) for label, of_setting in zip(labels, runs, strict=True)]


def captions_in_words(settings: Sequence[Setting]) -> str:
    """A sentence on the captions that the first run was trained on."""
    config: Any = readable_yaml(settings[0].jobs[0].folder / "config.yaml") if settings else {}
    train = ((config or {}).get("data") or {}).get("train") if isinstance(config, Mapping) else None
    if not isinstance(train, Mapping):
        return ""
    further, frames = train.get("further_caption_columns") or (), train.get("caption_templates") or ()
    if not further and not frames:
        return "The captions are those of the data set as they are."
    sources = f"one of {1 + len(further)} columns" if further else "the data set"
    return (
        f"The captions are wordy: a caption of {sources}"
        + (f", in one of {len(frames)} frames" if frames else "")
        + "; "
        "both are drawn by the sample's own seed."
    )
