"""Whether a config's objective writes captions, from source code: it is told before torch is imported."""

from collections.abc import Mapping
from typing import Any

from cliplab.settings.config import ConfigError
from cliplab.settings.signatures import has_method

SETS = "cliplab.evaluation.captioning.Captioning"


def writes_captions(objective: Any) -> bool:
    """Whether it, or a part of it, has the method of a writer; True where its source does not tell."""
    nodes = [objective, *(objective.get("parts") or {}).values()] if isinstance(objective, Mapping) else []
    targets = [str(node.get("_target_")) for node in nodes if isinstance(node, Mapping)]
    return not targets or any(has_method(target, "begin") is not False for target in targets)


def check_captioning(zeroshot: Mapping[str, Any], objective: Any) -> None:
    """Raises ConfigError for a set to write captions for where the objective writes none."""
    sets = [node for node in zeroshot.values() if isinstance(node, Mapping) and node.get("_target_") == SETS]
    if sets and not writes_captions(objective):
        raise ConfigError(no_writer(str(sets[0].get("name"))))


def no_writer(name: str) -> str:
    return (
        f"zeroshot: {name} is a set to write captions for, and this model writes none; use one of objective=caption or "
        "coca, or zeroshot=folder_retrieval"
    )
