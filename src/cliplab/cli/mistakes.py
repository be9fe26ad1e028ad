"""Hydra's errors in one line that names the key, the value and the fix."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

from cliplab.cli import places
from cliplab.cli.arguments import Arguments
from cliplab.cli.suggestions import nearest_choice, nearest_key
from cliplab.program import command, command_line, hydra_quoted, shell_quoted
from cliplab.settings.trainer import why_refused


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def explained(error: BaseException, arguments: Arguments) -> str:
    """What Hydra could not compose, and what to type instead. Other errors come back in one line, with their type."""
    overrides, text = arguments.overrides, one_line(error)
    if isinstance(error, OverrideParseException):
        return next((_unreadable(o) for o in overrides if not _parses(o)), text)
    whole = f"{text} {one_line(error.__cause__)}" if error.__cause__ else text
    for pattern, told in _TOLD.items():
        found = re.search(pattern, whole)
        if found:
            return told(found, arguments)
    if isinstance(error, ValueError) and "Config group override must be" in text:
        return next(_no_choices(overrides), text)
    mark = getattr(error, "problem_mark", None)  # of a YAML parser
    if mark is not None:
        problem = getattr(error, "problem", text)
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {problem}; mend the file"
    key = re.search(r"full_key: (\S+)", str(error))
    if key:
        return f"{key[1]}: {str(error).splitlines()[0]}"
    return text if isinstance(error, HydraException | ValueError) else f"{type(error).__name__}: {text}"


def key_of(override: str) -> str:
    return override.lstrip("+~").split("=")[0]


def value_of(override: str) -> str:
    return override.partition("=")[2]


def _typed(key: str, overrides: Sequence[str]) -> str:
    """The override of a key as it was typed."""
    return next((o for o in overrides if key_of(o) == key), key)


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _unreadable(override: str) -> str:
    """A word that Hydra's grammar does not read."""
    key, equals, value = override.partition("=")
    bare = key.lstrip("+~")
    if not equals:
        return _no_override(override)
    if key != key.strip() or value.startswith(" "):
        return f"{override!r}: no space may stand beside =; {shell_quoted(f'{key.strip()}={value.strip()}')}"
    if not _parses(f"{key}=1"):
        group, _, rest = bare.rpartition("/")
        hint = (
            f"; groups are chosen with / and values set with dots: {bare.replace('/', '.')}={value}"
            if group and rest
            else ""
        )
        return f"{bare}: this is no key{hint or '; keys are names with dots between, as data.batch_size'}"
    function = re.fullmatch(r"(\w+)\(.*\)", value)
    for left, right in ("[]", "{}", "()"):
        if value.count(left) > value.count(right) and not function and _parses(f"{key}={value}{right}"):
            return f"{bare}: {value} lacks a {right}; {shell_quoted(f'{override}{right}')}"
    if value.endswith(",") and _parses(override[:-1]):
        return f"{bare}: {value} ends in a comma; {override[:-1]}"
    if value.startswith("$") and not value.endswith("}"):
        return f"{bare}: {value} lacks a }}; {shell_quoted(override + '}')}"
    text = value.strip("'\"") if value[0] in "'\"" else value
    quoted = shell_quoted(f"{key}={hydra_quoted(text)}")
    return f"{bare}: {value!r} cannot be read as it stands; a text with {_odd_signs(text)} is put in quotes: {quoted}"


def _odd_signs(text: str) -> str:
    signs = dict.fromkeys(re.findall(r"[^\w/.+*%@?|:$\\ -]|[^\x00-\x7f]", text.replace("\n", "\n")))
    names = {"\n": "a line break", "\t": "a tab", ",": "a comma"}
    return " and ".join(names.get(sign, sign) for sign in signs) or "quotes or spaces"


def _no_override(word: str) -> str:
    """A word without ``=``: a choice without its group, a key without a value, or ``key:value``."""
    group, _, choice = word.rpartition("/")
    known = places.groups()
    if choice in known.get(group, ()):
        return f"{word}: a choice is typed {group}={choice}"
    owners = [name for name, choices in known.items() if word in choices]
    if owners:
        ways = " or ".join(f"{owner}={word}" for owner in owners[:4])
        return f"{word}: this says not what it is a choice of; did you mean {ways}?"
    key, colon, value = word.partition(":")
    if colon and key:
        return f"{word}: a value is set with =; {shell_quoted(f'{key}={value.strip()}')}"
    if word in known:
        return f"{word}: its choice is missing; {word}=…, there are {', '.join(known[word])}"
    near = nearest_choice(word, [name for choices in known.values() for name in choices])
    owner = next((name for name, choices in known.items() if near in choices), "")
    hint = f"; did you mean {owner}={near}?" if near else f", as {word}=…" if re.fullmatch(r"[\w.]+", word) else ""
    return f"{word}: a setting is typed key=value{hint or f'; see {command()} --help'}"


def _sweep_without_m(found: re.Match[str], arguments: Arguments) -> str:
    override = _typed(key_of(found[1]), arguments.overrides)
    key, value = key_of(override), value_of(override)
    line = command_line("-m", *arguments.overrides)
    number = re.fullmatch(r"\d{1,3}(,\d{3})+", value)
    if number:
        return f"{key}: {value} reads as several values; a number has no commas: {key}={value.replace(',', '')}"
    listed = f"; one list is written {shell_quoted(f'{key}=[{value}]')}" if "(" not in value else ""
    return f"{key}: {value} are several values; to run one job for each: {line}{listed}"


def _missing_choice(found: re.Match[str], arguments: Arguments) -> str:
    place, group, choice = found[1] or "", found[2], found[3]
    typed = [o for o in arguments.overrides if key_of(o) == group and choice in value_of(o)]
    if group.startswith("hydra/"):
        return (
            f"{group}: no choice {choice!r}; its package is perhaps not installed: pip install {_plugin(group, choice)}"
        )
    known = places.choices(places.config_dir() / group)
    if typed or not place or place == "config":
        return f"{group}: no choice {choice!r}{_elsewhere(choice, group, known)}"
    return f"{place}.yaml: its defaults name {group}: {choice}, which is no choice{_elsewhere(choice, group, known)}"


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
    return f"{hint} there are {', '.join(known)}"


def _no_choices(overrides: Sequence[str]) -> Iterator[str]:
    """Groups that were given something else than a name."""
    known = places.groups()
    for override in overrides:
        if key_of(override) in known and _parses(override):
            value = OverridesParser.create().parse_override(override).value()
            if not isinstance(value, str | list | dict):
                key = key_of(override)
                yield f"{key}: {value_of(override)} is no choice; there are {', '.join(known[key])}"


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
    why = why_refused(inner.removeprefix("trainer."), ()) if inner.startswith("trainer.") else ""
    if why:
        return f"{inner}: {why}"
    if inner.startswith(("data.train.sources.", "data.train.weights.")):
        return f'{inner}: this mixture has no such source; for yours: data=own_mixture "data.train.sources={{mine: <path>}}"'
    return nearest_key(inner, arguments)


def _present(found: re.Match[str], arguments: Arguments) -> str:
    override = _typed(found[1], arguments.overrides)
    return f"{found[1]}: it is there already; leave out the plus: {shell_quoted(override.lstrip('+'))}"


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


_TOLD: dict[str, Any] = {
    r"Ambiguous value for argument '([^=]+)=": _sweep_without_m,
    r"Sweep parameters '([^=]+)=.*requires --multirun": _sweep_without_m,
    r"(?:In '([^']*)': )?Could not (?:find|load) '([^']*)/([^'/]*)'": _missing_choice,
    r"Could not override '([^']*)'": _unknown_key,
    r"Could not append to config. An item is already at '([^']*)'": _present,
    r"Could not delete from config. '([^']*)' does not exist": _absent,
    r"Could not delete '([^']*)'. No match": _absent,
    r"Could not delete from config. The value of '([^']*)' is (.*) and not (.*?)\.(?: |$)": _other_value,
    r"BasicSweeper does not support sweep type": _continuous,
    r"Additional config directory '([^']*)' not found": _search_path,
    r"Cannot find primary config '([^']*)'|Primary config directory not found": _primary,
}
