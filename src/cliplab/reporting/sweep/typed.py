"""What was typed for a run, and what stands at a key in its config."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cliplab.files import read_yaml
from cliplab.program import hydra_unquoted

UNKEPT = ("resume", "paths.run", "hydra.run.dir")  # typed, but no setting of a run


def readable_yaml(file: Path) -> Any:
    """The content of a file; None when it is not there or is no YAML."""
    try:
        return read_yaml(file)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def read_typed(folder: Path) -> list[str]:
    """What was typed for a run, in that order; empty when it cannot be read."""
    typed = readable_yaml(folder / "overrides.yaml")
    return [str(word) for word in typed] if isinstance(typed, list) else []


def typed_values(typed: Sequence[str]) -> dict[str, str]:
    """By key, without the signs and quotes of the grammar; a key that was typed twice has its last value."""
    values = {}
    for word in typed:
        key, equals, value = word.partition("=")
        if equals and key.lstrip("+") not in UNKEPT:
            values[key.lstrip("+")] = hydra_unquoted(value)
        elif not equals and key.startswith("~"):
            values[key[1:]] = "null"
    return values


def value_text(config: Any, key: str) -> str | None:
    """What stands at a dotted key; None where nothing plain stands there."""
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return None if config is None or isinstance(config, Mapping) else str(config)


def with_defaults(folders: Sequence[Path], typed: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """What was typed for each run, with a value for each key that only others typed: what stands at it in the run's own
    config. Jobs of one sweep typed the same keys, and no config is read."""
    keys = dict.fromkeys(key for values in typed for key in values)
    found = []
    for folder, values in zip(folders, typed, strict=True):
        missing = [key for key in keys if key not in values and "/" not in key]
        config = readable_yaml(folder / "config.yaml") if missing else None
        known = {key: text for key in missing if (text := value_text(config, key)) is not None}
        found.append({**values, **known})
    return found
