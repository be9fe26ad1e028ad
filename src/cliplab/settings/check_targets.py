"""Check a resolved config against the classes that it names: keys, arguments, types and values. Errors name the dotted key.

``check_sources`` reads source code and imports nothing, so it runs before torch is imported. ``check_imported`` looks at the
imported classes, for what their source code does not show.
"""

import importlib.util
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import hydra

from cliplab.rules import NonNegative, Positive, Seed
from cliplab.settings.annotations import problem
from cliplab.settings.config import ConfigError, did_you_mean, for_lightning
from cliplab.settings.foreign import PACKAGES, rule_for, rules_of
from cliplab.settings.set_parts import parts_to_check
from cliplab.settings.signatures import NotThere, Signature, imported_signature, read_signature

HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
Word = str | int | float
TEXT = str | None
TOP_LEVEL: dict[str, Any] = {
    "seed": Seed, "tags": list[Word] | Word, "note": TEXT, "where": TEXT, "sort": TEXT,
    "adamw_lr": Positive, "adamw_weight_decay": NonNegative,
}  # fmt: skip
NO_ORIGINS: Mapping[str, str] = MappingProxyType({})

TOWERS = ("model.image_encoder.", "model.text_encoder.")
PACKAGE = "package:"  # begins the name of a folder inside an installed package


def check_sources(config: dict[str, Any], base: dict[str, Any], origins: Mapping[str, str] = NO_ORIGINS) -> None:
    """Check the top-level keys against those of the base config. Then check every ``_target_`` and its arguments against the
    source code. Raises ConfigError that names the key, with a "did you mean". For ``origins`` see ``config.origins``.
    """
    check_top_level(config, base)
    for place, node in targets(config):
        _check_target(place, node, origins, _signature_from_source)


def check(config: dict[str, Any], base: dict[str, Any], origins: Mapping[str, str] = NO_ORIGINS) -> None:
    """Check against the source code, then against the imported classes."""
    check_sources(config, base, origins)
    check_imported(config, origins)


def check_imported(config: dict[str, Any], origins: Mapping[str, str] = NO_ORIGINS) -> None:
    """Check every ``_target_`` and its arguments against the imported class. Raises ConfigError."""
    for place, node in targets(config):
        _check_target(place, node, origins, _signature_from_import)


def targets(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node with a ``_target_``, and its dotted key."""
    if isinstance(node, dict):
        if re.fullmatch(r"zeroshot\.\w+", place) and "_target_" in node:
            yield from ((place, part) for part in parts_to_check(node))
        elif "_target_" in node:
            yield place, for_lightning(node) if place == "trainer" else node
        for key, value in node.items():
            yield from targets(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from targets(value, f"{place}[{i}]")


def check_package(place: str, package: str | None, reason: str) -> None:
    """Raises ConfigError when a required package is not installed. Nothing is imported."""
    spec = importlib.util.find_spec(package) if package else None
    if package and (spec is None or spec.origin is None):  # without origin it is just a folder, as loggers leave behind
        raise ConfigError(
            f"{place}: {reason} needs the package {package}, which is not installed; pip install {package}"
        )


def check_top_level(config: dict[str, Any], base: dict[str, Any]) -> None:
    """Check the keys at the top level against those of the base config, and their plain values. Raises ConfigError."""
    for key, value in config.items():
        if key not in base:
            raise ConfigError(f"{key}: no such key at the top level{did_you_mean(key, base)}")
        kind = TOP_LEVEL.get(key, type(base[key]) if isinstance(base[key], bool | int | str) else Any)
        wrong = problem(value, kind)
        if wrong:
            raise ConfigError(f"{key}: {wrong}")
        for name in value if key == "paths" else ():
            if name not in base[key]:
                raise ConfigError(f"paths.{name}: no such key{did_you_mean(name, base[key])}")


def _signature_from_source(place: str, target: str) -> Signature | None:
    try:
        return read_signature(target)
    except NotThere as error:
        raise ConfigError(f"{place}._target_: {target} cannot be imported: {error}") from error


def _signature_from_import(place: str, target: str) -> Signature | None:
    log = logging.getLogger("hydra.utils")
    log.disabled = True  # it would print the same error a second time
    try:
        return imported_signature(hydra.utils.get_object(target))
    except Exception as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(f"{place}._target_: {target} cannot be imported: {cause}") from error
    finally:
        log.disabled = False


def _check_target(
    place: str,
    node: dict[str, Any],
    origins: Mapping[str, str],
    signature_of: Callable[[str, str], Signature | None],
) -> None:
    target = str(node["_target_"])
    signature = signature_of(place, target)
    if signature is None:
        return
    check_package(place, PACKAGES.get(target, signature.needs_package), target.rpartition(".")[2])
    arguments = {key: value for key, value in node.items() if key not in HYDRA_KEYS}
    for key in arguments:
        if key not in signature.parameters and not signature.open_ended:
            hint = did_you_mean(key, signature.parameters)
            raise ConfigError(f"{place}.{key}: {target} takes no argument {key!r}{hint}")
    for name, parameter in signature.parameters.items():
        if parameter.required and name not in arguments and not node.get("_partial_") and not node.get("_args_"):
            raise ConfigError(f"{place}.{name}: {target} needs this argument")
    _check_values(place, arguments, signature, origins, target)


def _check_values(
    place: str, arguments: Mapping[str, Any], signature: Signature, origins: Mapping[str, str], target: str
) -> None:
    rules = rules_of(target)
    for key, value in arguments.items():
        if isinstance(value, dict) and "_target_" in value:
            continue
        here = f"{place}.{key}"
        origin = origins.get(here, here)
        if value is None and origin.startswith(TOWERS) and not here.startswith(TOWERS):
            continue  # the tower knows the value, and the tower's own argument is checked
        if isinstance(value, str) and value.startswith(PACKAGE):
            check_package(origin, re.split(r"[/.]", value.removeprefix(PACKAGE))[0], value)
        annotation = _annotation(signature, key)
        wrong = problem(value, rule_for(rules[key], annotation) if key in rules else annotation, target)
        if wrong:
            raise ConfigError(f"{origin}: {wrong}")


def _annotation(signature: Signature, key: str) -> Any:
    return signature.parameters[key].annotation if key in signature.parameters else Any
