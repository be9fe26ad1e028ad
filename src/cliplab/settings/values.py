"""Values that no run can work with, told by their key from the composed config alone: nothing heavy is imported."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cliplab.data.patterns import is_pattern, matching_files
from cliplab.evaluation.kind import kind_of_evaluator
from cliplab.evaluation.kinds.retrieval import VALIDATION
from cliplab.rules import NonNegative
from cliplab.settings.annotations import problem
from cliplab.settings.config import ConfigError, value_at
from cliplab.settings.trainer import check_gpu, check_processes, check_trainer

READ_DATA = ("train", "data", "prepare")  # tasks that read the captions of data=
LOCAL = ("/", "./", "../", "~")  # beginnings of what can be no hub id


def check_values(config: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Look at plain values by key. ``origins`` tells which key a value was interpolated from. Raises ConfigError that
    names key, value and what fits."""
    check_trainer(config)
    check_gpu(config)
    if (config.get("task") or {}).get("name") == "train":
        check_processes(config.get("trainer") or {})
    trainer = config.get("trainer") or {}
    if {"max_epochs", "max_steps"} <= set(trainer) and {trainer["max_epochs"], trainer["max_steps"]} <= {None, -1}:
        raise ConfigError("trainer.max_epochs: without a limit here, trainer.max_steps must say how long to train")
    for key, path in _labelled_paths(config.get("zeroshot") or {}):
        if path:
            _check_path(key, path)
    if (config.get("task") or {}).get("name") in READ_DATA:
        data = config.get("data") or {}
        _check_mixture(data.get("train") or {})
        for key, path in _paths(data):
            _check_path(origins.get(key, key), path)


def check_optimized(config: Mapping[str, Any]) -> None:
    """Raises ConfigError when the metric of a sweep is one of validation pairs and the data have none."""
    metric = str(config["optimized_metric"])
    validated = metric.startswith(f"{VALIDATION}/")
    if config["task"]["name"] == "train" and validated and not config["data"].get("validation"):
        nodes = [node for node in (config.get("zeroshot") or {}).values() if node and "name" in node]
        known = [(kind_of_evaluator(node["_target_"]), node["name"]) for node in nodes]
        sets = [kind.logged(name, kind.headline) for kind, name in known if kind]
        raise ConfigError(
            f"optimized_metric: {metric} needs validation pairs, and these data have none; compare by what is logged, as "
            f"optimized_metric={(sets or ['train/image_accuracy'])[0]}"
        )


def _check_mixture(train: Mapping[str, Any]) -> None:
    """Sources there must be, and weights of the same names."""
    if "sources" not in train:
        return
    sources, weights = train["sources"], train.get("weights")
    if not isinstance(sources, Mapping) or not sources:
        raise ConfigError(
            f"data.train.sources: {sources!r} names no source; write "
            '"data.train.sources={photos: <folder or hub id>, web: <folder or hub id>}"'
        )
    names = ", ".join(map(str, sources))
    if isinstance(weights, Mapping):
        if set(weights) != set(sources):
            raise ConfigError(
                f"data.train.weights: they name {', '.join(map(str, weights))}, and the sources are {names}; give each "
                "source its weight, or null"
            )
        for name, weight in weights.items():
            wrong = problem(weight, NonNegative)
            if wrong:
                raise ConfigError(f"data.train.weights.{name}: {wrong}")
    elif weights is not None:
        raise ConfigError(f"data.train.weights: {weights!r} must be a weight for each of {names}, or null")


def _paths(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The paths of the caption sources that are read from one."""
    train = data.get("train") or {}
    nodes: dict[str, Any] = {f"data.train.sources.{name}": node for name, node in (train.get("sources") or {}).items()}
    for place, node in {"data.train": train, **nodes, "data.validation": data.get("validation")}.items():
        if isinstance(node, str):
            yield place, node
        ours = isinstance(node, Mapping) and str(node.get("_target_")).startswith("cliplab.")
        if ours and "path" in node and node.get("dataset") is None:
            yield f"{place}.path", node["path"]


def _labelled_paths(zeroshot: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The paths of the zero-shot sets and of what a probe is fitted to."""
    for name, node in zeroshot.items():
        for part in ("dataset", "train"):
            yield f"zeroshot.{name}.{part}.path", value_at(node, f"{part}.path")


def _check_path(key: str, path: Any) -> None:
    if not path:
        raise ConfigError(
            f"{key}: {path!r} is no place to read from; give a local folder or file, or a hub id: {key}=…"
        )
    if is_pattern(str(path)) and not Path(str(path)).expanduser().exists():
        try:
            matching_files(str(path))
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from error
    elif str(path).startswith(LOCAL) and not Path(str(path)).expanduser().exists():
        raise ConfigError(f"{key}: {path} is neither a folder nor a file; give one that is there, or a hub id")
