"""Explain Hydra's errors in one line that names the key, the value and the fix."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

from cliplab.cli import places
from cliplab.cli.arguments import Arguments
from cliplab.cli.grammar import LISTS, explain_unreadable, parses, part_of_swept, value_of
from cliplab.cli.suggestions import NOTHING, known_keys, listed_choices, nearest_choice, takes_list, unknown_key
from cliplab.program import command_line, hydra_quoted, key_of, shell_quoted
from cliplab.settings.check_trainer import why_refused
from cliplab.text import one_line

# What other programs call a task
TASKS = {
    **dict.fromkeys(("test", "val", "validate", "validation", "zeroshot", "zero_shot"), "evaluate"),
    **dict.fromkeys(("fit", "pretrain", "finetune", "fine_tune"), "train"),
    **dict.fromkeys(("predict", "infer", "inference"), "classify"),
    **dict.fromkeys(("features", "extract", "encode"), "embed"),
    **dict.fromkeys(("list", "ls"), "runs"),
}


def explain(error: BaseException, arguments: Arguments) -> str:
    """Say what Hydra could not compose, and what to type instead. Any other error is returned in one line, with its type."""
    overrides, text = arguments.overrides, one_line(error)
    if isinstance(error, OverrideParseException):
        return one_line(next((explain_unreadable(o) for o in overrides if not parses(o)), error))
    whole = f"{text} {one_line(error.__cause__)}" if error.__cause__ else text
    for pattern, explanation in _EXPLANATIONS.items():
        found = re.search(pattern, whole)
        if found:
            return explanation(found, arguments)
    if isinstance(error, ValueError) and "Config group override must be" in text:
        return next(_not_choices(overrides), text)
    if isinstance(error, UnicodeDecodeError):
        return next((f"{file}: {text}; save it as UTF-8" for file in _files(arguments) if not _is_text(file)), text)
    if isinstance(error, OSError) and error.filename:
        key = next((key_of(o) for o in overrides if o.startswith(("hydra.", "paths.")) and _leads(o, error)), "")
        return f"{key + ': ' if key else ''}{error.filename} cannot be made or written: {error.strerror}"
    mark = getattr(error, "problem_mark", None)  # the YAML parser sets it
    if mark is not None:
        problem = getattr(error, "problem", text)
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {problem}; correct the file"
    full = re.search(r"full_key: (\S+)", str(error))
    if full:
        return f"{full[1]}: {str(error).splitlines()[0]}"
    return text if isinstance(error, HydraException | ValueError) else f"{type(error).__name__}: {text}"


def _leads(override: str, error: OSError) -> bool:
    """Whether the typed path is the one that the error is about, or one above or below it."""
    typed, path = value_of(override).strip("'\""), str(error.filename)
    return bool(typed) and (path in typed or typed in path)


def _typed(key: str, overrides: Sequence[str]) -> str:
    """The override of the key, as it was typed; the last one, which is the one that counts."""
    return next((o for o in reversed(overrides) if key_of(o) == key), key)


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
    if key == "query":
        return f"{key}: a text with a comma needs quotes: {shell_quoted(f'{key}={hydra_quoted(value)}')}"
    several = "(" not in value and takes_list(key, arguments)
    listed = f"; one list is written {shell_quoted(f'{key}=[{value}]')}" if several else ""
    return f"{key}: {value} are several values; to run one job for each: {line}{listed}"


def _path_for_group(arguments: Arguments) -> str:
    """Explain that a group was given a path instead of the name of a choice; "" when none was."""
    known = places.groups()
    for override in arguments.overrides:
        group, value = key_of(override), value_of(override).strip("'\"")
        if group in known and value not in known[group] and re.search(r"[/\\~]|\.(ya?ml|pt|ckpt)$", value):
            there, dotted = known_keys(arguments), group.replace("/", ".")
            keys = [key for key in (f"{dotted}.path", f"{dotted}.source") if key in there]
            way = f"; a path is set by {shell_quoted(f'{keys[0]}={value}')}" if keys else ""
            return f"{group}: {value!r} is not a choice{way}; the choices are {listed_choices(known[group])}"
    return ""


def _missing_choice(found: re.Match[str], arguments: Arguments) -> str:
    path = _path_for_group(arguments)
    if path:
        return path
    place, group, choice = found[1] or "", found[2], found[3]
    typed = [o for o in arguments.overrides if key_of(o) == group and choice in value_of(o)]
    if group in ("hydra/sweeper", "hydra/launcher"):
        own = {"hydra/sweeper": "sweep", "hydra/launcher": "launcher"}[group]
        ours = listed_choices(places.choices(places.config_dir() / own))
        return f"{group}: {choice} is not used here; choose by {own}=, as {ours}"
    if group.startswith("hydra/"):
        install = f"perhaps its package is not installed: pip install {_plugin(group, choice)}"
        return f"{group}: there is no choice {choice!r}; {install}"
    known = places.choices(places.config_dir() / group)
    if typed or not place or place == "config":
        named_in = [f"{file}: " for file in _files(arguments) if not typed and choice.encode() in file.read_bytes()]
        return f"{''.join(named_in[:1])}{group}: there is no choice {choice!r}{_other_choices(choice, group, known)}"
    return f"{place}.yaml: its defaults name {group}: {choice}, which is not a choice{_other_choices(choice, group, known)}"


def _files(arguments: Arguments) -> Iterator[Path]:
    """The files of the typed choices, and the user's own settings for this machine."""
    roots = [arguments.flags.get("config_dir"), places.config_dir()]
    names = [f"{key_of(o)}/{value_of(o)}.yaml" for o in arguments.overrides if "=" in o] + ["local/default.yaml"]
    files = (Path(root) / name for root in roots if root for name in names)
    return (file for file in files if file.is_file())


def _plugin(group: str, choice: str) -> str:
    kind = group.rpartition("/")[2]
    return f"hydra-{choice.removesuffix('_local').removesuffix('_slurm').replace('submitit', 'submitit')}-{kind}"


def _other_choices(choice: str, group: str, known: Sequence[str]) -> str:
    groups = {} if choice.lower() in NOTHING else places.groups()
    owners = [name for name, names in groups.items() if choice in names and name != group]
    near = nearest_choice(choice, known) or (TASKS.get(choice.lower(), "") if group == "task" else "")
    if near:
        hint = f"; did you mean {near!r}?"
    else:
        hint = f"; it is a choice of {' and of '.join(owners)}: {owners[0]}={choice};" if owners else ";"
    return f"{hint} the choices are {listed_choices(known)}"


def _is_text(file: Path) -> bool:
    try:
        file.read_text(encoding="utf8")
    except UnicodeDecodeError:
        return False
    return True


def _not_choices(overrides: Sequence[str]) -> Iterator[str]:
    """Groups that were given something other than a name, such as a number."""
    known = places.groups()
    for override in overrides:
        if key_of(override) in known and parses(override):
            value = OverridesParser.create().parse_override(override).value()
            if not isinstance(value, str | list | dict):
                key = key_of(override)
                yield f"{key}: {value_of(override)} is not a choice; the choices are {listed_choices(known[key])}"


def _trainer_keys(arguments: Arguments) -> list[str]:
    return [key.removeprefix("trainer.") for key in known_keys(arguments) if key.startswith("trainer.")]


def _unknown_key(found: re.Match[str], arguments: Arguments) -> str:
    deeper = re.search(r"full_key: (\S+)", found.string)
    inner = deeper[1] if deeper else found[1]
    group, _, package = inner.partition("@")
    if package:
        return f"{inner}: a choice cannot be moved to another place; {group}={value_of(_typed(inner, arguments.overrides))}"
    if "/" in inner:
        groups = places.groups()
        near = nearest_choice(inner, groups)
        hint = f"did you mean {near!r}?" if near else f"there are {', '.join(groups)}"
        return f"{inner}: no such group; {hint}"
    swept = part_of_swept(inner, arguments.overrides)
    if swept and arguments.flags.get("multirun"):
        with_it = [choice for choice in swept[1] if inner in known_keys(arguments.replaced([f"{swept[0]}={choice}"]))]
        if with_it:
            value = re.sub(r"^choice\((.*)\)$", r"\1", value_of(_typed(inner, arguments.overrides)))
            tag = shell_quoted(f"{inner}=tag('{swept[0]}={'|'.join(with_it)}',choice({value}))")
            return f"{inner}: {swept[0]}={', '.join(with_it)} has it, and not every choice that is typed; type {tag}"
    why = why_refused(inner.removeprefix("trainer."), _trainer_keys(arguments)) if inner.startswith("trainer.") else ""
    if why:
        return f"{inner}: {why}"
    if inner.startswith(("data.train.sources.", "data.train.weights.")):
        return f'{inner}: this mixture has no such source; for yours: data=own_mixture "data.train.sources={{mine: <path>}}"'
    return unknown_key(inner, arguments)


def _of_the_command(found: re.Match[str], arguments: Arguments) -> str:
    if found[1].startswith(("hydra.sweeper", "hydra.launcher")):
        return unknown_key(found[1], arguments)
    return f"{found[1]}: it holds for the whole command and cannot be varied by its jobs; type one value"


def _key_exists(found: re.Match[str], arguments: Arguments) -> str:
    override = _typed(found[1], arguments.overrides)
    return f"{found[1]}: it exists already; leave out the plus: {shell_quoted(override.lstrip('+'))}"


def _group_twice(found: re.Match[str], arguments: Arguments) -> str:
    group = found[1]
    plus = next((o for o in arguments.overrides if o.startswith("+") and key_of(o) == group), "")
    if plus:
        return f"{group}: it exists already; leave out the plus: {shell_quoted(plus.lstrip('+'))}"
    return f"{group}: the defaults name it more than once; remove one of them, or write it as override {group}"


def _nothing_to_delete(found: re.Match[str], arguments: Arguments) -> str:
    return (
        unknown_key(found[1], arguments, "~")
        if found[1]
        else "~: there is no key after ~; ~callbacks.progress removes one"
    )


def _replaced(found: re.Match[str], arguments: Arguments) -> str:
    key = found[1]
    own = [name for name in known_keys(arguments) if name.startswith(f"{key}.") and not name.endswith("_")]
    typed = value_of(_typed(key, arguments.overrides))
    if not own:
        return f"{key}: {typed} cannot stand where a list is, such as {key}=[…]"
    return f"{key}: {typed} cannot replace what has keys of its own; set its keys, as {own[0]}=…"


def _other_value(found: re.Match[str], arguments: Arguments) -> str:
    return f"{found[1]}: it is {found[2]}, not {found[3]}; ~{found[1]} removes it, whatever its value is"


def _no_config_dir(found: re.Match[str], arguments: Arguments) -> str:
    return f"--config-dir: {found[1]} is not a folder"


def _config_not_found(found: re.Match[str], arguments: Arguments) -> str:
    flag = "--config-path" if "config_path" in arguments.flags else "--config-name"
    given = arguments.flags.get(flag.strip("-").replace("-", "_"), found[1])
    return f"{flag}: {given} is not found; leave it out for cliplab's own config, or add yours by --config-dir=<folder>"


def _override_in_file(found: re.Match[str], arguments: Arguments) -> str:
    if found[2] in places.groups():  # it comes after the experiment in the list of defaults
        typed = f"{found[2]}=<choice>"
        return (
            f"{found[1]}.yaml: its defaults override {found[2]}, which each command chooses anew; type {typed} instead"
        )
    near = nearest_choice(found[2], places.groups())
    hint = f"; did you mean {near}?" if near else ""
    return f"{found[1]}.yaml: its defaults override {found[2]}, which is not a group{hint}"


def _without_value(found: re.Match[str], arguments: Arguments) -> str:
    return f"{found[1]}: it has no value; set it, {found[1]}=…, or in the file of the experiment"


_EXPLANATIONS: dict[str, Any] = {
    r"In '([^']*)': Could not override '([^']*)'": _override_in_file,
    r"Missing mandatory value: (\w+)": _without_value,
    r"Ambiguous value for argument '([^=]+)=": _sweep_without_m,
    r"Sweep parameters '([^=]+)=.*requires --multirun": _sweep_without_m,
    r"(?:In '([^']*)': )?Could not (?:find|load) '([^']*)/([^'/]*)'": _missing_choice,
    r"Could not override '([^']*)'": _unknown_key,
    r"Sweeping over Hydra's configuration is not supported : '([^=]+)=": _of_the_command,
    r"Could not append to config. An item is already at '([^']*)'": _key_exists,
    r"Error merging override ([\w.]+)=": _replaced,
    r"(\S+) appears more than once in the final defaults list": _group_twice,
    r"Could not delete from config. '([^']*)' does not exist": _nothing_to_delete,
    r"Could not delete '([^']*)'. No match": _nothing_to_delete,
    r"Could not delete from config. The value of '([^']*)' is (.*) and not (.*?)\.(?: |$)": _other_value,
    r"Additional config directory '([^']*)' not found": _no_config_dir,
    r"Cannot find primary config '([^']*)'|Primary config directory not found": _config_not_found,
}
