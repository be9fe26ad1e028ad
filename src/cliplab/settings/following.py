"""Values that are said once: a saved config holds them at every place that referred to them."""

from collections.abc import Mapping, Sequence
from typing import Any

from cliplab.settings.config import value_at

FOLLOWERS = {
    "seed": ["data.seed"],
    "trainer.max_steps": ["data.max_steps"],
    "data.path": ["data.train.path", "data.validation.path"],
    "data.streaming": ["data.train.streaming"],
    "data.samples_per_epoch": ["data.train.samples_per_epoch"],
}
ABSENT = object()


def with_followers(config: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """``overrides`` of a saved config, and the same values for the places that had the value that is changed."""
    typed = {override.partition("=")[0] for override in overrides}
    more = []
    for override in overrides:
        key, _, value = override.partition("=")
        held = value_at(config, key, ABSENT)
        same = [place for place in FOLLOWERS.get(key, ()) if value_at(config, place, ABSENT) == held]
        more += [f"{place}={value}" for place in same if place not in typed]
    return [*overrides, *more]
