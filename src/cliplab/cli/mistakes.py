"""Hydra's errors in one line that names the key, the value and the fix."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

from cliplab.cli import places
from cliplab.cli.arguments import Arguments
from cliplab.cli.grammar import key_of, one_line, parses, unreadable, value_of
from cliplab.cli.suggestions import known_keys, nearest_choice, nearest_key, shown, takes_list
from cliplab.program import command_line, shell_quoted
from cliplab.settings.trainer import why_refused

LISTS = ("labels", "run", "ckpt", "pretrained", "images")  # keys that take several things at once


def explained(error: BaseException, arguments: Arguments) -> str:
    """What Hydra could not compose, and what to type instead. Other errors come back in one line, with their type."""
    overrides, text = arguments.overrides, one_line(error)
    if isinstance(error, OverrideParseException):
        return one_line(next((unreadable(o) for o in overrides if not parses(o)), error))
    whole = f"{text} {one_line(error.__cause__)}" if error.__cause__ else text
    for pattern, told in _TOLD.items():
        found = re.search(pattern, whole)
        if found:
            return told(found, arguments)
    if isinstance(error, ValueError) and "Config group override must be" in text:
        return next(_no_choices(overrides), text)
    if isinstance(error, UnicodeDecodeError):
        return next((f"{file}: {text}; save it as UTF-8" for file in _files(arguments) if not _is_text(file)), text)
    mark = getattr(error, "problem_mark", None)  # of a YAML parser
    if mark is not None:
        problem = getattr(error, "problem", text)
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {problem}; mend the file"
    key = re.search(r"full_key: (\S+)", str(error))
    if key:
        return f"{key[1]}: {str(error).splitlines()[0]}"
    return text if isinstance(error, HydraException | ValueError) else f"{type(error).__name__}: {text}"


def _typed(key: str, overrides: Sequence[str]) -> str:
    """The override of a key as it was typed."""
    return next((o for o in overrides if key_of(o) == key), key)


def _sweep_without_m(found: re.Match[str], arguments: Arguments) -> str:
    override = _typed(key_of(found[1]), arguments.overrides)
    key, value = key_of(override), value_of(override)
    line = command_line("-m", *arguments.overrides)
    if key in LISTS:
        listed = shell_quoted(f"{key}=[{value}]")
        return f"{key}: a list is written in brackets: {listed}; to run one job for each: {line}"
    number = re.fullmatch(r"\d{1,3}(,\d{3})+", value)
    if number:
        return f"{key}: {value} reads as several values; a number has no commas: {key}={value.replace(',', '')}"
    several = "(" not in value and takes_list(key, arguments)
    listed = f"; one list is written {shell_quoted(f'{key}=[{value}]')}" if several else ""
    return f"{key}: {value} are several values; to run one job for each: {line}{listed}"


def _path_for_group(arguments: Arguments) -> str:
    """A group that was given a path instead of the name of a choice; empty when none was."""
    known = places.groups()
    for override in arguments.overrides:
        group, value = key_of(override), value_of(override).strip("'\"")
        if group in known and value not in known[group] and re.search(r"[/\\~]|\.(ya?ml|pt|ckpt)$", value):
            there, dotted = known_keys(arguments), group.replace("/", ".")
            keys = [key for key in (f"{dotted}.path", f"{dotted}.source") if key in there]
            way = f"; a path is set by {shell_quoted(f'{keys[0]}={value}')}" if keys else ""
            return f"{group}: {value!r} is no choice{way}; there are {shown(known[group])}"
    return ""


def _missing_choice(found: re.Match[str], arguments: Arguments) -> str:
    path = _path_for_group(arguments)
    if path:
        return path
    place, group, choice = found[1] or "", found[2], found[3]
    typed = [o for o in arguments.overrides if key_of(o) == group and choice in value_of(o)]
    if group.startswith("hydra/"):
        return (
            f"{group}: no choice {choice!r}; its package is perhaps not installed: pip install {_plugin(group, choice)}"
        )
    known = places.choices(places.config_dir() / group)
    if typed or not place or place == "config":
        told = [f"{file}: " for file in _files(arguments) if not typed and choice.encode() in file.read_bytes()]
        return f"{''.join(told[:1])}{group}: no choice {choice!r}{_elsewhere(choice, group, known)}"
    return f"{place}.yaml: its defaults name {group}: {choice}, which is no choice{_elsewhere(choice, group, known)}"


def _files(arguments: Arguments) -> Iterator[Path]:
    """The files of the choices that were typed, and the user's own of this machine."""
    roots = [arguments.flags.get("config_dir"), places.config_dir()]
    names = [f"{key_of(o)}/{value_of(o)}.yaml" for o in arguments.overrides if "=" in o] + ["local/default.yaml"]
    files = (Path(root) / name for root in roots if root for name in names)
    return (file for file in files if file.is_file())


def _plugin(group: str, choice: str) -> str:
    kind = group.rpartition("/")[2]
    return f"hydra-{choice.removesuffix('_local').removesuffix('_slurm').replace('submitit', 'submitit')}-{kind}"


def _elsewhere(choice: str, group: str, known: Sequence[str]) -> str:
    owners = [name for name, names in places.groups().items() if choice in names and name != group]
    near = nearest_choice(choice, known)
    if near:
        hint = f"; did you mean {near!r}?"
    else:
        hint = f"; it is one of {' and of '.join(owners)}: {owners[0]}={choice};" if owners else ";"
    return f"{hint} there are {shown(known)}"


def _is_text(file: Path) -> bool:
    try:
        file.read_text(encoding="utf8")
    except UnicodeDecodeError:
        return False
    return True


def _no_choices(overrides: Sequence[str]) -> Iterator[str]:
    """Groups that were given something else than a name."""
    known = places.groups()
    for override in overrides:
        if key_of(override) in known and parses(override):
            value = OverridesParser.create().parse_override(override).value()
            if not isinstance(value, str | list | dict):
                key = key_of(override)
                yield f"{key}: {value_of(override)} is no choice; there are {shown(known[key])}"


def _trainer_keys(arguments: Arguments) -> list[str]:
    return [key.removeprefix("trainer.") for key in known_keys(arguments) if key.startswith("trainer.")]


def _unknown_key(found: re.Match[str], arguments: Arguments) -> str:
    deeper = re.search(r"full_key: (\S+)", found.string)
    inner = deeper[1] if deeper else found[1]
    group, _, package = inner.partition("@")
    if package:
        return f"{inner}: a choice stays in its place; {group}={value_of(_typed(inner, arguments.overrides))}"
    if "/" in inner:
        groups = places.groups()
        near = nearest_choice(inner, groups)
        hint = f"did you mean {near!r}?" if near else f"there are {', '.join(groups)}"
        return f"{inner}: no such group; {hint}"
    why = why_refused(inner.removeprefix("trainer."), _trainer_keys(arguments)) if inner.startswith("trainer.") else ""
    if why:
        return f"{inner}: {why}"
    if inner.startswith(("data.train.sources.", "data.train.weights.")):
        return f'{inner}: this mixture has no such source; for yours: data=own_mixture "data.train.sources={{mine: <path>}}"'
    return nearest_key(inner, arguments)


def _present(found: re.Match[str], arguments: Arguments) -> str:
    override = _typed(found[1], arguments.overrides)
    return f"{found[1]}: it is there already; leave out the plus: {shell_quoted(override.lstrip('+'))}"


def _twice(found: re.Match[str], arguments: Arguments) -> str:
    group = found[1]
    plus = next((o for o in arguments.overrides if o.startswith("+") and key_of(o) == group), "")
    if plus:
        return f"{group}: it is there already; leave out the plus: {shell_quoted(plus.lstrip('+'))}"
    return f"{group}: the defaults name it more than once; leave one out, or write it as override {group}"


def _absent(found: re.Match[str], arguments: Arguments) -> str:
    return (
        nearest_key(found[1], arguments, "~")
        if found[1]
        else "~: there is no key after ~; ~callbacks.progress leaves one out"
    )


def _other_value(found: re.Match[str], arguments: Arguments) -> str:
    return f"{found[1]}: it is {found[2]}, not {found[3]}; ~{found[1]} leaves it out whatever it is"


def _continuous(found: re.Match[str], arguments: Arguments) -> str:
    key = next((key_of(o) for o in arguments.overrides if "interval(" in o), "hydra/sweeper")
    return f"{key}: an interval is for a search, with sweep=optuna; a grid takes values, as {key}=1e-3,3e-3"


def _search_path(found: re.Match[str], arguments: Arguments) -> str:
    return f"--config-dir: {found[1]} is no folder"


def _primary(found: re.Match[str], arguments: Arguments) -> str:
    flag = "--config-path" if "config_path" in arguments.flags else "--config-name"
    given = arguments.flags.get(flag.strip("-").replace("-", "_"), found[1])
    return f"{flag}: {given} is not found; leave it out for cliplab's own config, or add yours by --config-dir=<folder>"


def _override_in_file(found: re.Match[str], arguments: Arguments) -> str:
    near = nearest_choice(found[2], places.groups())
    return f"{found[1]}.yaml: its defaults override {found[2]}, which is no group{f'; did you mean {near}?' if near else ''}"


def _without_value(found: re.Match[str], arguments: Arguments) -> str:
    return f"{found[1]}: it has no value; set it, {found[1]}=…, or in the file of the experiment"


_TOLD: dict[str, Any] = {
    r"In '([^']*)': Could not override '([^']*)'": _override_in_file,
    r"Missing mandatory value: (\w+)": _without_value,
    r"Ambiguous value for argument '([^=]+)=": _sweep_without_m,
    r"Sweep parameters '([^=]+)=.*requires --multirun": _sweep_without_m,
    r"(?:In '([^']*)': )?Could not (?:find|load) '([^']*)/([^'/]*)'": _missing_choice,
    r"Could not override '([^']*)'": _unknown_key,
    r"Could not append to config. An item is already at '([^']*)'": _present,
    r"(\S+) appears more than once in the final defaults list": _twice,
    r"Could not delete from config. '([^']*)' does not exist": _absent,
    r"Could not delete '([^']*)'. No match": _absent,
    r"Could not delete from config. The value of '([^']*)' is (.*) and not (.*?)\.(?: |$)": _other_value,
    r"BasicSweeper does not support sweep type": _continuous,
    r"Additional config directory '([^']*)' not found": _search_path,
    r"Cannot find primary config '([^']*)'|Primary config directory not found": _primary,
}
