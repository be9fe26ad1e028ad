"""The resolved config: checked against the code it will call, then handed on as plain values."""

import difflib
import inspect
import logging
import pathlib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hydra
import yaml
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from cliplab.files import whole_file
from cliplab.settings.set_parts import parts_to_check

OWN_TRAINER_KEYS = ("on_nan",)  # under trainer; the rest of it goes to lightning.Trainer
SETTINGS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


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


def _targets(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield place, node
        for key, value in node.items():
            yield from _targets(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{place}[{i}]")


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a plain value can be what an annotation says; annotations this does not know fit anything."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is typing.Literal:
        return value in arguments
    if wanted is type(None) or wanted is None:
        return value is None
    if wanted is bool:
        return isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is str or (inspect.isclass(wanted) and issubclass(wanted, pathlib.PurePath)):
        return isinstance(value, str)
    if origin in (list, tuple, set, Sequence, Iterable) or wanted in (list, tuple):
        return isinstance(value, list)
    if wanted is typing.Any or wanted is object or not inspect.isclass(wanted):
        return True
    return not isinstance(value, str | int | float)  # a class of its own cannot be written as a scalar


def _named(wanted: Any) -> str:
    """An annotation as it is written: ``float | Tensor``."""
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return " | ".join(_named(option) for option in typing.get_args(wanted))
    return getattr(wanted, "__name__", str(wanted))


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


def _check_types(
    place: str, target: str, function: Any, arguments: dict[str, Any], typed_at: Mapping[str, str]
) -> None:
    try:
        hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except Exception:
        return
    for key, value in arguments.items():
        nested = isinstance(value, dict)
        if key in hints and not nested and not _fits(value, hints[key]):
            name = typed_at.get(f"{place}.{key}", f"{place}.{key}")
            raise ConfigError(f"{name}: {value!r} is no {_named(hints[key])}, which {target} asks for")


def _check_target(place: str, node: dict[str, Any], typed_at: Mapping[str, str]) -> None:
    target = node["_target_"]
    try:
        logging.getLogger("hydra.utils").disabled = True  # it would tell the same error a second time
        function = hydra.utils.get_object(target)
    except Exception as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(f"{place}._target_: {target} cannot be imported: {cause}") from error
    finally:
        logging.getLogger("hydra.utils").disabled = False
    arguments = {k: v for k, v in node.items() if k not in SETTINGS}
    parameters = inspect.signature(function).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in parameters and not open_ended:
            hint = did_you_mean(key, parameters)
            raise ConfigError(f"{place}.{key}: {target} takes no argument {key!r}{hint}")
    if not node.get("_partial_"):
        for name, p in parameters.items():
            required = p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            if required and name not in arguments:
                raise ConfigError(f"{place}.{name}: {target} needs this argument")
    _check_types(place, target, function, arguments, typed_at)


def check(
    config: dict[str, Any],
    base: dict[str, Any],
    typed_at: Mapping[str, str] = MappingProxyType({}),
    classes: bool = True,
) -> None:
    """Check the top-level keys against those of the base config, then every ``_target_`` and its arguments, before
    anything is built. Raises ConfigError naming the key, with a "did you mean". ``typed_at`` is what ``origins`` tells.
    Without ``classes`` nothing is imported and the arguments are left alone, for a task that builds nothing.
    """
    for key, value in config.items():
        if key not in base:
            raise ConfigError(f"{key}: no such key at the top level{did_you_mean(key, base)}")
        if isinstance(base[key], bool | int | str) and not _fits(value, type(base[key])):
            raise ConfigError(f"{key}: {value!r} is no {type(base[key]).__name__}")
        if key == "paths":
            for name in value:
                if name not in base[key]:
                    raise ConfigError(f"paths.{name}: no such key{did_you_mean(name, base[key])}")
    for place, node in _targets(config, "") if classes else ():
        if place == "trainer":
            node = for_lightning(node)
            if node.get("precision") == "auto":
                node["precision"] = "32-true"
        if re.fullmatch(r"zeroshot\.\w+", place):
            for part in parts_to_check(node):
                _check_target(place, part, typed_at)
        else:
            _check_target(place, node, typed_at)


def base_config(config_dir: Path) -> dict[str, Any]:
    """The base config's own values, and its groups by name."""
    base = yaml.safe_load((config_dir / "config.yaml").read_text(encoding="utf8"))
    groups = [next(iter(entry)) for entry in base.pop("defaults") if isinstance(entry, dict)]
    names = [group.removeprefix("optional ").split("/")[0] for group in groups if not group.startswith("override ")]
    paths = yaml.safe_load((config_dir / "paths" / "default.yaml").read_text(encoding="utf8"))
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


def fill_own_values(cfg: DictConfig) -> None:
    """Write into the config what a tower knows of itself, for arguments left at null: a tower's class says so with
    ``own_values(node) -> values``. From then on the config needs neither its source nor its library to be read."""
    for place in ("model.image_encoder", "model.text_encoder"):
        node = OmegaConf.select(cfg, place)
        if not isinstance(node, DictConfig) or None not in node.values() or OmegaConf.missing_keys(node):
            continue
        try:
            tower = hydra.utils.get_object(node["_target_"])
        except Exception:
            continue  # check tells it better
        if hasattr(tower, "own_values"):
            values = tower.own_values(OmegaConf.to_container(node, resolve=True))
            for key, value in values.items():
                OmegaConf.update(cfg, f"{place}.{key}", value, force_add=True)


def build(node: Any, place: str, **extra: Any) -> Any:
    """Instantiate a plain node; lists and dicts reach their target as such. An error comes out as it was raised, begun with
    the config key of the part that raised it: ``place`` is the node's own."""
    try:
        return hydra.utils.instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException):
            inner = re.search(r"^full_key: (\S+)$", str(cause), re.MULTILINE)
            if cause.__cause__ is None:
                break
            cause = cause.__cause__
        key = f"{place}.{inner[1]}" if inner else place
        told = re.search(rf"\b{place.split('.')[0]}\.\w", str(cause))  # it names a key itself
        if not told and cause.args and str(cause) == cause.args[0]:
            cause.args = (f"{key}: {cause.args[0]}", *cause.args[1:])
        raise cause from None


def save_yaml(path: Path, value: Any) -> None:
    with whole_file(path) as file:
        yaml.safe_dump(value, file, sort_keys=False, allow_unicode=True)
