"""The resolved config: checked against the code it will call, then handed on as plain values."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import hydra
import yaml
from omegaconf import DictConfig, OmegaConf

from cliplab.files import read_yaml, whole_file

OWN_TRAINER_KEYS = ("on_nan",)  # under trainer; the rest of it goes to lightning.Trainer


def for_lightning(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """What lightning.Trainer takes of the ``trainer`` group."""
    return {key: value for key, value in trainer.items() if key not in OWN_TRAINER_KEYS}


class ConfigError(ValueError):
    """A mistake in the config, told in one line."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when something known looks like it, a neighbour under the same parent first."""
    parent, _, leaf = word.rpartition(".")
    leaves = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent]
    beside = difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.45)
    close = [f"{parent}.{beside[0]}".lstrip(".")] if beside else difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def typed_keys(overrides: Iterable[str]) -> list[str]:
    """The keys of what was typed, without values and signs."""
    return [override.lstrip("+~").split("=")[0] for override in overrides]


def value_at(node: Any, key: str, absent: Any = None) -> Any:
    """What stands at a dotted key, or ``absent``."""
    for name in key.split("."):
        node = node.get(name, absent) if isinstance(node, Mapping) else absent
    return node


def origins(cfg: DictConfig) -> dict[str, str]:
    """For each place whose value is another key's, by interpolation alone, that key: what a user would have typed."""
    found: dict[str, str] = {}

    def walk(node: Any, place: str) -> None:
        for key, value in node.items() if isinstance(node, dict) else ():
            inner = f"{place}.{key}" if place else str(key)
            whole = re.fullmatch(r"\$\{([\w./]+)\}", value) if isinstance(value, str) else None
            if whole:
                found[inner] = whole[1]
            walk(value, inner)

    walk(OmegaConf.to_container(cfg, resolve=False), "")
    for place, key in found.items():
        while key in found:
            key = found[key]
        found[place] = key
    return found


def base_config(config_dir: Path) -> dict[str, Any]:
    """The base config's own values, and its groups by name."""
    base = read_yaml(config_dir / "config.yaml")
    groups = [next(iter(entry)) for entry in base.pop("defaults") if isinstance(entry, dict)]
    names = [group.removeprefix("optional ").split("/")[0] for group in groups if not group.startswith("override ")]
    paths = read_yaml(config_dir / "paths" / "default.yaml")
    return {**dict.fromkeys(names), "tokenizer": None, **base, "name": None, "paths": paths}


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Plain dicts and lists with every interpolation resolved. Raises ConfigError when a value is missing."""
    try:
        missing = OmegaConf.missing_keys(cfg)
        if missing:
            raise ConfigError(f"{sorted(missing)[0]}: this value must be given on the command line")
        return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(_unresolved(error)) from error


def _unresolved(error: Exception) -> str:
    """What a reference from one key to another lacks; OmegaConf tells the key in a line of its own."""
    text, key = str(error), re.search(r"full_key: (\S+)", str(error))
    place = f"{key[1]}: " if key else ""
    missing = re.match(r"Interpolation key '([^']*)' not found", text)
    if missing:
        return f"{place}it refers to {missing[1]}, and there is no such key; set one of the two"
    variable = re.search(r"Environment variable '([^']*)' not found", text)
    if variable:
        return f"{place}it refers to the environment variable {variable[1]}, which is not set; set it, or give a value"
    return f"{place}{text.splitlines()[0]}"


def fill_known_values(cfg: DictConfig) -> None:
    """Write into the config what a tower knows of itself, for arguments left at null: a tower's class says so with
    ``known_values(node) -> values``. From then on the config needs neither its source nor its library to be read."""
    for place in ("model.image_encoder", "model.text_encoder"):
        node = OmegaConf.select(cfg, place)
        if not isinstance(node, DictConfig) or None not in node.values() or OmegaConf.missing_keys(node):
            continue
        try:
            tower = hydra.utils.get_object(node["_target_"])
        except Exception:
            continue  # check tells it better
        if hasattr(tower, "known_values"):
            values = tower.known_values(OmegaConf.to_container(node, resolve=True))
            for key, value in values.items():
                OmegaConf.update(cfg, f"{place}.{key}", value, force_add=True)


def save_yaml(path: Path, value: Any) -> None:
    with whole_file(path) as file:
        yaml.safe_dump(value, file, sort_keys=False, allow_unicode=True)
