"""Updates configs that earlier versions wrote. Every reader of a stored config calls ``current``."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

# Earlier names of classes and today's. A name that ends with a dot is a module with all of its content
MOVED = {
    "cliplab.losses.": "cliplab.objectives.contrastive.",
    "cliplab.data.rows.RowFilters": "cliplab.data.filters.RowFilters",
    "cliplab.data.stream.caption_source": "cliplab.data.sources.caption_source",
    "cliplab.tasks.benchmark_loader.": "cliplab.benchmarks.loader.",
    "cliplab.tasks.benchmark_zero_shot.": "cliplab.benchmarks.zero_shot.",
}
# Settings that no longer exist, by their dotted key: data.eval_transform now prepares the images of every set
DROPPED = ("zeroshot.*.dataset.image_size", "zeroshot.*.train.image_size")


def current(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config with today's names of classes, without settings that no longer exist. A current one is unchanged."""
    return _renewed(config, "")


def _renewed(node: Any, place: str) -> Any:
    if isinstance(node, Mapping):
        places = {key: f"{place}.{key}" if place else str(key) for key in node}
        return {key: _renewed(value, places[key]) for key, value in node.items() if not _is_dropped(places[key])}
    if isinstance(node, list):
        return [_renewed(value, place) for value in node]
    return _moved(node) if isinstance(node, str) and place.endswith(("_target_", "function")) else node


def _is_dropped(place: str) -> bool:
    return any(fnmatchcase(place, pattern) and place.count(".") == pattern.count(".") for pattern in DROPPED)


def _moved(name: str) -> str:
    for before, now in MOVED.items():
        if name == before or (before.endswith(".") and name.startswith(before)):
            return now + name.removeprefix(before)
    return name
