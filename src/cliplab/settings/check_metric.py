"""Check the metric that jobs are compared by against what the config will log. Nothing heavy is imported."""

import difflib
from collections.abc import Mapping
from typing import Any

from cliplab.evaluation.kind import VALIDATION, kind_of_evaluator
from cliplab.settings.config import ConfigError

COMMON = ("train/loss", "train/image_accuracy")  # of every training run
GUESSED = ("loss", "acc", "accuracy", "top1", "recall")  # last words of names that people know from elsewhere


def check_optimized(config: Mapping[str, Any]) -> None:
    """``check_metric`` of a job's own metric."""
    check_metric(str(config["optimized_metric"]), config, "optimized_metric")


def check_metric(metric: str, config: Mapping[str, Any], key: str) -> None:
    """Raises ConfigError, which names ``key``, when a training run with this config cannot log the metric: it is of a set
    that is not evaluated, of validation pairs that are not there, or almost the name of another one. Any other name may be
    logged by the user's own callbacks, and passes."""
    if config["task"]["name"] != "train":
        return
    nodes = [node for node in (config.get("zeroshot") or {}).values() if isinstance(node, Mapping) and "name" in node]
    kinds = [(kind_of_evaluator(str(node.get("_target_"))), str(node["name"])) for node in nodes]
    known = [(kind, name) for kind, name in kinds if kind]
    sets = [kind.logged(name, kind.headline) for kind, name in known]
    figures = [kind.logged(name, figure) for kind, name in known for figure in (*kind.figures, *kind.facts)]
    validated = bool(config["data"].get("validation"))
    best = [*sets, *([f"{VALIDATION}/recall@1"] if validated else [])] or [COMMON[1]]
    if metric.startswith(f"{VALIDATION}/") and not validated:
        raise ConfigError(
            f"{key}: {metric} needs validation pairs, and these data have none; compare by what is logged, as "
            f"{key}={best[0]}"
        )
    place = metric.rpartition("/")[0]
    groups = {"zeroshot", *(name.partition("/")[0] for name in sets)}
    evaluated = {name.rpartition("/")[0] for name in sets}
    own = len(known) < len(kinds)  # evaluators of the user's own may log anything
    if place.partition("/")[0] in groups and place not in evaluated and not own:
        raise ConfigError(
            f"{key}: {metric} is of a set that zeroshot= does not evaluate; compare by what is logged, as {key}={best[0]}"
        )
    names = [*figures, *COMMON, *([f"{VALIDATION}/recall@1"] if validated else [])]
    meant = _meant(metric, names)
    if meant:
        raise ConfigError(f"{key}: {metric} is not logged; did you mean {key}={meant}?")


def _meant(metric: str, names: list[str]) -> str | None:
    """The name that was meant by one that is almost it: without what stands before the last word, with a slip in the last
    word, or with a word known from elsewhere."""
    place, _, word = metric.rpartition("/")
    if metric in names:
        return None
    beside = [name for name in names if name.rpartition("/")[0] == place]
    if not place:
        return next((name for name in names if name.rpartition("/")[2] == word), None)
    if beside and word in GUESSED:
        return beside[0]
    letters = word.rstrip("@0123456789")
    slips = {name: name.rpartition("/")[2].rstrip("@0123456789") for name in beside}
    if letters in slips.values():  # recall@5
        return None
    close = difflib.get_close_matches(letters, list(slips.values()), n=1, cutoff=0.8)
    return next((name for name in beside if close and slips[name] == close[0]), None)
