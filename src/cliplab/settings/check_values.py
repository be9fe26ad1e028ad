"""Check values of the composed config that no run can use. Errors name the dotted key. Nothing heavy is imported."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cliplab.data.patterns import is_pattern, matching_files
from cliplab.rules import TEMPLATES, NonNegative
from cliplab.settings.annotations import problem
from cliplab.settings.check_data import check_data
from cliplab.settings.check_machine import check_memory, check_workers
from cliplab.settings.check_paths import check_there
from cliplab.settings.check_trainer import check_gpu, check_processes, check_trainer
from cliplab.settings.config import ConfigError, did_you_mean, value_at

OWN_TRANSFORMERS = (
    "cliplab.models.vision_transformer.VisionTransformer",
    "cliplab.models.text_transformer.TextTransformer",
)
LABELLED = (
    "cliplab.data.labelled.LabelledImages",
    "cliplab.data.labelled.MultiLabelImages",
    "cliplab.data.captions.caption_pairs",
)
EVALUATE = ("train", "evaluate")
READ_DATA = ("train", "data", "lr_find", "prepare")  # tasks that read the captions of data=


def check_values(config: Mapping[str, Any], origins: Mapping[str, str], *, elsewhere: bool = False) -> None:
    """Check plain values. ``origins`` maps a key to the key that its value was interpolated from. Raises ConfigError that
    names the key, the value and what would fit; for a job that runs ``elsewhere``, not what fits this machine."""
    task = (config.get("task") or {}).get("name")
    check_trainer(config)
    if not elsewhere and task != "plan":
        _check_fits_machine(config, task)
    trainer = config.get("trainer") or {}
    if {"max_epochs", "max_steps"} <= set(trainer) and {trainer["max_epochs"], trainer["max_steps"]} <= {None, -1}:
        raise ConfigError("trainer.max_epochs: without a limit here, set trainer.max_steps to say how long to train")
    _check_towers(config.get("model") or {})
    for key, path in labelled_paths(config.get("zeroshot") or {}):
        if path is not None:
            _check_path(key, path)
    if task in EVALUATE:
        _check_zero_shot(config.get("zeroshot") or {})
    if task in READ_DATA:
        check_data(config, origins)
        data = config.get("data") or {}
        _check_mixture(data.get("train") or {})
        for key, path in caption_paths(data):
            _check_path(origins.get(key, key), path)


def _check_fits_machine(config: Mapping[str, Any], task: Any) -> None:
    check_gpu(config)
    if task == "train":
        check_processes(config.get("trainer") or {})
    check_workers(config.get("data") or {})
    check_memory(config.get("model") or {})


def _check_towers(model: Mapping[str, Any]) -> None:
    """Raises ConfigError for sizes of our own towers that do not divide each other."""
    for tower in ("image_encoder", "text_encoder"):
        node = model.get(tower)
        target = str(node.get("_target_")) if isinstance(node, Mapping) else ""
        if target not in OWN_TRANSFORMERS:
            continue
        for size_key, divisor_key in (("width", "heads"), ("image_size", "patch_size")):
            size, divisor = node.get(size_key), node.get(divisor_key)  # type: ignore[union-attr]
            if isinstance(size, int) and isinstance(divisor, int) and divisor > 0 and size % divisor:
                fitting = max(1, size // divisor) * divisor
                fix = "one of the two" if size_key == "width" else f"model.{tower}.{size_key} to {fitting}"
                raise ConfigError(
                    f"model.{tower}.{divisor_key}: {divisor} does not divide {size_key} {size}; set {fix}"
                )


def _check_mixture(train: Mapping[str, Any]) -> None:
    """A mixture needs sources, and weights with the same names."""
    if "sources" not in train:
        return
    sources, weights = train["sources"], train.get("weights")
    if not isinstance(sources, Mapping) or not sources:
        raise ConfigError(
            f"data.train.sources: {sources!r} does not name a source; write "
            '"data.train.sources={photos: <folder or hub id>, web: <folder or hub id>}"'
        )
    names = ", ".join(map(str, sources))
    if isinstance(weights, Mapping):
        if set(weights) != set(sources):
            raise ConfigError(
                f"data.train.weights: the weights are for {', '.join(map(str, weights))}, but the sources are {names}; give "
                "each source its weight, or null"
            )
        for name, weight in weights.items():
            wrong = problem(weight, NonNegative)
            if wrong:
                raise ConfigError(f"data.train.weights.{name}: {wrong}")
    elif weights is not None:
        raise ConfigError(f"data.train.weights: {weights!r} must be a weight for each of {names}, or null")


def caption_paths(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The paths that caption sources are read from, with their keys."""
    train = data.get("train") or {}
    nodes: dict[str, Any] = {f"data.train.sources.{name}": node for name, node in (train.get("sources") or {}).items()}
    for place, node in {"data.train": train, **nodes, "data.validation": data.get("validation")}.items():
        if isinstance(node, str):
            yield place, node
        ours = isinstance(node, Mapping) and str(node.get("_target_")).startswith("cliplab.")
        if ours and "path" in node and node.get("dataset") is None:
            yield f"{place}.path", node["path"]


def labelled_paths(zeroshot: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The paths of the zero-shot sets, and of the training parts of linear probes."""
    for name, node in zeroshot.items():
        for part in ("dataset", "train"):
            yield f"zeroshot.{name}.{part}.path", value_at(node, f"{part}.path")


def _check_zero_shot(zeroshot: Mapping[str, Any]) -> None:
    """Raises ConfigError for a set of one's own without a path, and for templates in a file that is not there."""
    for name, node in zeroshot.items():
        if not isinstance(node, Mapping):
            continue
        dataset, templates = node.get("dataset"), node.get("templates")
        if isinstance(dataset, Mapping) and dataset.get("_target_") in LABELLED and dataset.get("path", "") is None:
            key = f"zeroshot.{name}.dataset.path"
            raise ConfigError(f"{key}: the set has no path; give a local folder or a hub id: {key}=…")
        if isinstance(templates, str) and templates not in TEMPLATES and not Path(templates).expanduser().is_file():
            raise ConfigError(
                f"zeroshot.{name}.templates: {templates!r} is neither a file nor one of {', '.join(TEMPLATES)}"
                f"{did_you_mean(templates, TEMPLATES)}"
            )


def _check_path(key: str, path: Any) -> None:
    if not path:
        raise ConfigError(f"{key}: {path!r} is not a path; give a local folder or file, or a hub id: {key}=…")
    if is_pattern(str(path)) and not Path(str(path)).expanduser().exists():
        try:
            matching_files(str(path))
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from error
    else:
        check_there(key, str(path))
