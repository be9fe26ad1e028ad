"""What is otherwise now than when a run was made."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cliplab.nested import flat

PLACES = ("paths", "resume")  # of the config: where things lie


class Difference(NamedTuple):
    """One fact: what it was in the run, and what it is now."""

    what: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.what}: {_shown(self.then)} then, {_shown(self.now)} now"


def _shown(value: Any) -> str:
    return "none" if value in (None, "", []) else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def moved(node: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> Any:
    """A config in which paths in a run's own folder, or in the logs or the root above it, are those of another place. Both
    places are the ``paths`` of a config."""
    if isinstance(node, Mapping):
        return {key: moved(value, before, after) for key, value in node.items()}
    if isinstance(node, list):
        return [moved(value, before, after) for value in node]
    for key in ("run", "logs", "root") if isinstance(node, str) else ():
        there = str(before.get(key) or "")
        if there and (node == there or node.startswith(there + "/")):
            return str(after[key]) + node.removeprefix(there)
    return node


def config_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Values that are not the same, but for where things lie."""
    before = flat(moved({k: v for k, v in then.items() if k not in PLACES}, then["paths"], now["paths"]))
    after = flat({k: v for k, v in now.items() if k not in PLACES})
    keys = dict.fromkeys([*before, *after])
    return [Difference(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def surrounding_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Between two manifests: code, Python, packages, hardware. What one of them does not tell is left out."""
    found = []
    for group, words in (("git", "git "), ("versions", ""), ("hardware", "")):
        before, after = then.get(group) or {}, now.get(group) or {}
        found += [
            Difference(f"{words}{key.replace('_', ' ')}", before[key], after.get(key))
            for key in before
            if before[key] != after.get(key)
        ]
    if then.get("python") not in (None, now.get("python")):
        found.insert(0, Difference("Python", then["python"], now.get("python")))
    changed = (then.get("git") or {}).get("dirty")
    return [*found, *([Difference("local changes of the code", "some, which nobody knows", "")] if changed else [])]


def figure_differences(then: Mapping[str, float], now: Mapping[str, float]) -> list[Difference]:
    """Final figures that are not the same to the last digit; how fast it went does not count."""
    keys = [key for key in then if key in now and not key.endswith("_per_second")]
    return [Difference(key, then[key], now[key]) for key in keys if then[key] != now[key]]
