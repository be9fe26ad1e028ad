"""What was typed, taken apart: Hydra's flags on one side, overrides of the config on the other."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from cliplab.program import command, hydra_quoted

# Hydra's flags, with the longest name first
SWITCHES = (
    ("--help", "-h"),
    ("--version", "-V"),
    ("--multirun", "-m"),
    ("--run", "-r"),
    ("--resolve",),
    ("--shell-completion", "-sc"),
    ("--hydra-help",),
)
VALUED = (
    ("--package", "-p"),
    ("--config-path", "-cp"),
    ("--config-name", "-cn"),
    ("--config-dir", "-cd"),
    ("--experimental-rerun",),
)
# A key and a value that can only be a path: it begins as one, and a sign in it has no place in Hydra's grammar.
_PATH = re.compile(r"([\w.@/+]+)=((?:~|\.{0,2}/|\w[\w.-]*/)[^'\"\\$\n]*)", re.ASCII)
_FREE_TEXT = re.compile(r"(note|where)=(?!null$)([^'\"].*)", re.DOTALL)  # any text is meant as it stands
_ANY_PATH = re.compile(r"([\w.@]*\bpath)=([^,]*/[^,]*)")
_NO_GRAMMAR = re.compile(r"[{}\[\]=&#()~]|[^\x00-\x7f]")
COMMANDS = ("cfg", "info", "shell_completion", "hydra_help")  # flags that show something and start no job


class UsageError(Exception):
    """A command line that cannot be read, told in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {command()} --help")


@dataclass(frozen=True)
class Arguments:
    """``flags`` by their long name without dashes, as ``multirun``; ``overrides`` in the order they were typed."""

    flags: dict[str, Any]
    overrides: tuple[str, ...]

    @property
    def shows_only(self) -> bool:
        """Whether no job is started."""
        return any(self.flags.get(name) for name in COMMANDS)

    def with_(self, overrides: Sequence[str], **flags: Any) -> "Arguments":
        return replace(self, flags={**self.flags, **flags}, overrides=tuple(map(with_quoted_path, overrides)))

    def argv(self) -> list[str]:
        """The same for Hydra's parser, which wants all flags before the first override."""
        words = []
        for name, value in self.flags.items():
            flag = "--" + name.replace("_", "-")
            words += [flag] if value is True else [f"{flag}={value}"] if value not in (None, False) else []
        return [*words, *self.overrides]


def _flags() -> dict[tuple[str, ...], dict[str, Any]]:
    """The names of each flag with what argparse is told of it."""
    info = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    switches: dict[tuple[str, ...], dict[str, Any]] = {names: {"action": "store_true"} for names in SWITCHES}
    valued: dict[tuple[str, ...], dict[str, Any]] = {names: {} for names in VALUED}
    shown: dict[tuple[str, ...], dict[str, Any]] = {
        ("--cfg", "-c"): {"choices": ["job", "hydra", "all"]},
        ("--info", "-i"): {"const": "all", "nargs": "?", "choices": info},
    }
    return switches | valued | shown


def _check_dashes(argv: Sequence[str], names: Sequence[str]) -> None:
    """Raises UsageError for an option that is none of the flags, such as ``--lr=1``."""
    for word in argv:
        name, equals, _ = word.partition("=")
        if not word.startswith("-") or name in names or name in ("-", "--") or word[1:2].isdigit():
            continue
        if equals:
            raise UsageError(f"{word}: values of the config are typed without dashes: {word.lstrip('-')}")
        if word.startswith("--") or word[:2] not in names:
            flags = ", ".join(name for name in names if name.startswith("--"))
            raise UsageError(f"{word}: there is no such flag; values are typed as key=value, and the flags are {flags}")


def with_quoted_path(override: str) -> str:
    """The same, with a path in quotes that Hydra's grammar would not read: a range in braces, a pattern, an accent, ``=``.
    Several values, with commas outside of braces, stay as they are."""
    free = _FREE_TEXT.fullmatch(override)
    if free:
        return f"{free[1]}={hydra_quoted(free[2])}"
    found = _PATH.fullmatch(override)
    if found is None or not _NO_GRAMMAR.search(found[2]) or "," in re.sub(r"\{[^{}]*\}", "", found[2]):
        return override
    return f"{found[1]}={hydra_quoted(found[2])}"


def _check_braces(overrides: Sequence[str]) -> None:
    """Raises UsageError for a path that a shell has made several of: the last would win, without a word."""
    typed = [found.groups() for found in map(_ANY_PATH.fullmatch, overrides) if found]
    for key, value in typed:
        others = [other for name, other in typed if name == key and other != value]
        if others:
            raise UsageError(
                f"{key}: it is typed {1 + len(others)} times, {value}, {others[0]}, …; did the shell expand braces? put the "
                f'word in quotes: "{key}=/a/{{0..9}}.tar"'
            )


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Raises UsageError naming the word that cannot be read."""
    for word in argv:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UsageError(f"{word!a}: these bytes are no UTF-8; type the value in UTF-8")
    parser = _Parser(add_help=False, allow_abbrev=False)
    for names, facts in _flags().items():
        parser.add_argument(*names, **facts)
    parser.add_argument("overrides", nargs="*")
    _check_dashes(argv, [name for names in _flags() for name in names])
    found = vars(parser.parse_intermixed_args(list(argv)))
    overrides = found.pop("overrides")
    _check_braces(overrides)
    if (found["package"] or found["resolve"]) and not found["cfg"]:
        raise UsageError(
            f"--{'package' if found['package'] else 'resolve'}: it is for --cfg; --cfg job prints the config"
        )
    flags = {name: value for name, value in found.items() if value not in (None, False)}
    return Arguments(flags, tuple(map(with_quoted_path, overrides)))
