"""The config as plain values: resolve it, look up values in it, save it."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import hydra
import yaml
from omegaconf import DictConfig, OmegaConf

from cliplab.files import read_yaml, whole_file
from cliplab.program import key_of

# Keys of the trainer group that are not arguments of lightning.Trainer
OWN_TRAINER_KEYS = ("on_nan", "activation_checkpointing", "contrastive_accumulation")


def for_lightning(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the ``trainer`` group that lightning.Trainer takes."""
    return {key: value for key, value in trainer.items() if key not in OWN_TRAINER_KEYS}


def times(value: float, factor: float) -> float:
    """A product without the digits that binary fractions add: 2e-3 * 0.1 is 2e-4."""
    return float(f"{float(value) * float(factor):.12g}")


OmegaConf.register_new_resolver("times", times, replace=True)  # configs/optimizer: ${times:${adamw_lr},0.2}


class ConfigError(ValueError):
    """A mistake in the config. The message is one line."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the most similar known name, preferably under the same parent; "" without one."""
    parent, _, leaf = word.rpartition(".")
    leaves = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent]
    beside = difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.45)
    close = [f"{parent}.{beside[0]}".lstrip(".")] if beside else difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def typed_keys(overrides: Iterable[str]) -> list[str]:
    """The keys of overrides, without values and signs."""
    return [key_of(override) for override in overrides]


def value_at(node: Any, key: str, absent: Any = None) -> Any:
    """The value at a dotted key, or ``absent``."""
    for name in key.split("."):
        node = node.get(name, absent) if isinstance(node, Mapping) else absent
    return node


def tags_of(config: Mapping[str, Any]) -> list[str]:
    """``tags=[a,b]``, or ``tags=a`` for one."""
    tags = config.get("tags") or []
    return [str(tag) for tag in (tags if isinstance(tags, list) else [tags])]


def origins(cfg: DictConfig) -> dict[str, str]:
    """For each key whose value is only a reference to another key, that other key, which a user would have typed."""
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
        seen = {place}
        while key in found and key not in seen:  # a circle is told when the config is resolved
            seen.add(key)
            key = found[key]
        found[place] = key
    return found


def base_config(config_dir: Path) -> dict[str, Any]:
    """The values and the groups of the base config, by key."""
    base = read_yaml(config_dir / "config.yaml")
    groups = [next(iter(entry)) for entry in base.pop("defaults") if isinstance(entry, dict)]
    names = [group.removeprefix("optional ").split("/")[0] for group in groups if not group.startswith("override ")]
    paths = read_yaml(config_dir / "paths" / "default.yaml")
    return {**dict.fromkeys(names), "tokenizer": None, **base, "name": None, "paths": paths}


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain dicts and lists, with references resolved. Raises ConfigError when a value is missing."""
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
    """Explain a reference that cannot be resolved. OmegaConf names the key on a separate line."""
    text, key = str(error), re.search(r"full_key: (\S+)", str(error))
    place = f"{key[1]}: " if key else ""
    missing = re.match(r"Interpolation key '([^']*)' not found", text)
    if missing:
        return f"{place}it refers to {missing[1]}, but there is no such key; set one of the two"
    if text.startswith("Recursive interpolation"):
        return f"{place}it refers to itself, directly or by way of others; give it a value"
    variable = re.search(r"Environment variable '([^']*)' not found", text)
    if variable:
        return f"{place}it refers to the environment variable {variable[1]}, which is not set; set it, or give a value"
    return f"{place}{text.splitlines()[0]}"


def fill_known_values(cfg: DictConfig) -> None:
    """Fill in arguments of towers that are null and that the class of the tower knows: ``known_values(node) -> values``.
    Afterwards, the config can be read without the source and the library of the tower."""
    for place in ("model.image_encoder", "model.text_encoder"):
        node = OmegaConf.select(cfg, place)
        if not isinstance(node, DictConfig) or None not in node.values() or OmegaConf.missing_keys(node):
            continue
        try:
            tower = hydra.utils.get_object(node["_target_"])
        except Exception:
            continue  # the check of targets reports it
        if hasattr(tower, "known_values"):
            values = tower.known_values(OmegaConf.to_container(node, resolve=True))
            for key, value in values.items():
                OmegaConf.update(cfg, f"{place}.{key}", value, force_add=True)


def save_yaml(path: Path, value: Any) -> None:
    with whole_file(path) as file:
        yaml.safe_dump(value, file, sort_keys=False, allow_unicode=True)
