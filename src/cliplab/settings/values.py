"""Values that no run can work with, told by their key from the composed config alone: nothing heavy is imported."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cliplab.data.patterns import is_pattern, matching_files
from cliplab.settings.config import ConfigError, value_at
from cliplab.settings.trainer import check_gpu, check_trainer


class Rule(NamedTuple):
    """What a number must be; of a list, each of its numbers. null passes: whether it may be null is the code's matter."""

    kind: type
    fits: Callable[[Any], bool]
    words: str


COUNT = Rule(int, lambda x: x >= 1, "1 or more")
NATURAL = Rule(int, lambda x: x >= 0, "0 or more")
SEED = Rule(int, lambda x: 0 <= x < 2**32, "between 0 and 4294967295")
LIMIT = Rule(int, lambda x: x >= 1 or x == -1, "1 or more, or -1 for no limit")
POSITIVE = Rule(float, lambda x: 0 < x < float("inf"), "above 0")
WEIGHT = Rule(float, lambda x: 0 <= x < float("inf"), "0 or more")
SHARE = Rule(float, lambda x: 0 <= x <= 1, "between 0 and 1")
DECAY = Rule(float, lambda x: 0 <= x < 1, "0 or more and below 1")
BATCHES = Rule(
    float,
    lambda x: x >= 1 if isinstance(x, int) else 0 < x <= 1,
    "a number of batches from 1 on, or a share of an epoch above 0.0 and up to 1.0",
)

RULES = {
    "seed": SEED,
    "optimizer.lr": POSITIVE,
    "optimizer.betas": DECAY,
    "optimizer.eps": WEIGHT,
    "optimizer.weight_decay": WEIGHT,
    "scheduler.warmup_steps": NATURAL,
    "scheduler.min_ratio": SHARE,
    "trainer.max_epochs": LIMIT,
    "trainer.max_steps": LIMIT,
    "trainer.num_nodes": COUNT,
    "trainer.limit_train_batches": BATCHES,
    "trainer.gradient_clip_val": WEIGHT,
    "trainer.log_every_n_steps": COUNT,
    "model.embed_dim": COUNT,
    "model.init_temperature": POSITIVE,
    "model.max_logit_scale": POSITIVE,
    "data.batch_size": COUNT,
    "data.num_workers": NATURAL,
    "data.samples_per_epoch": COUNT,
    "data.max_bad_fraction": SHARE,
    "data.train.limit": COUNT,
    "data.train.shuffle_buffer": COUNT,
    "data.train.parts": COUNT,
    "data.train.lanes": COUNT,
    "data.train_transform.scale": SHARE,
    "data.train_transform.flip": SHARE,
    "callbacks.evaluation.every_n_epochs": COUNT,
    "callbacks.evaluation.every_n_steps": COUNT,
    "callbacks.evaluation.panel_images": NATURAL,
    "callbacks.evaluation.trial_share": POSITIVE,
    "callbacks.checkpoint.every_n_train_steps": COUNT,
    "callbacks.checkpoint.every_n_epochs": COUNT,
    "task.batch_size": COUNT,
    "task.workers": COUNT,
    "task.top": COUNT,
    "task.shown": NATURAL,
    "task.rows_per_part": COUNT,
    "task.rows_per_shard": COUNT,
    "task.shortest_side": COUNT,
}
# In towers, whichever class they are of: only numbers are looked at
SIZES = ("image_size", "patch_size", "width", "layers", "heads", "vocab_size", "context_length", "output_dim")
READ_DATA = ("train", "data", "prepare")  # tasks that read the captions of data=
LOCAL = ("/", "./", "../", "~")  # beginnings of what can be no hub id


def check_values(config: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Look at plain values by key. ``origins`` tells which key a value was interpolated from. Raises ConfigError that
    names key, value and what fits."""
    for key, rule in RULES.items():
        _check(key, value_at(config, key), rule)
    check_trainer(config)
    check_gpu(config)
    trainer = config.get("trainer") or {}
    if {"max_epochs", "max_steps"} <= set(trainer) and {trainer["max_epochs"], trainer["max_steps"]} <= {None, -1}:
        raise ConfigError("trainer.max_epochs: without a limit here, trainer.max_steps must say how long to train")
    for key, value in _sizes(config.get("model"), "model"):
        _check(origins.get(key, key), value, COUNT)
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
    if config["task"]["name"] == "train" and metric.startswith("val/") and not config["data"].get("validation"):
        sets = [f"zeroshot/{node['name']}/acc1" for node in (config.get("zeroshot") or {}).values() if "name" in node]
        raise ConfigError(
            f"optimized_metric: {metric} needs validation pairs, and these data have none; compare by what is logged, as "
            f"optimized_metric={(sets or ['train/image_accuracy'])[0]}"
        )


def _check(key: str, value: Any, rule: Rule) -> None:
    for number in value if isinstance(value, list) else [value]:
        if number is None:
            continue
        is_number = isinstance(number, int if rule.kind is int else int | float) and not isinstance(number, bool)
        if not is_number:
            raise ConfigError(f"{key}: {value!r} is no {rule.kind.__name__}; it must be {rule.words}")
        if not rule.fits(number):
            raise ConfigError(f"{key}: {value!r} must be {rule.words}")


def _sizes(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Numbers, alone or in lists, that are sizes of towers."""
    for name, value in node.items() if isinstance(node, Mapping) else ():
        numbers = [x for x in (value if isinstance(value, list) else [value]) if isinstance(x, int | float)]
        if name in SIZES and numbers:
            yield f"{place}.{name}", value
        yield from _sizes(value, f"{place}.{name}")


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
            _check(f"data.train.weights.{name}", weight, WEIGHT)
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
