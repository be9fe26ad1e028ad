"""Parse the command line into Hydra's flags and overrides of the config."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from cliplab.program import command, hydra_quoted

# Hydra's flags, the longest name first
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
# A key, and a value that can only be a path
_PATH = re.compile(r"([\w.@/+]+)=((?:~|\.{0,2}/|\w[\w.-]*/)[^'\"\\$\n]*)", re.ASCII)
_FREE_TEXT = re.compile(r"(note|where)=(?!null$)([^'\"].*)", re.DOTALL)  # any text is meant as it stands
_ANY_PATH = re.compile(r"([\w.@]*\bpath)=([^,]*/[^,]*)")
_NEEDS_QUOTES = re.compile(r"[{}\[\]=&#()~]|[^\x00-\x7f]")
SHOWING_FLAGS = ("cfg", "info", "shell_completion", "hydra_help")  # flags that show something and start no job


class UsageError(Exception):
    """A command line that cannot be read. The message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {command()} --help")


@dataclass(frozen=True)
class Arguments:
    """``flags`` by their long names without dashes, such as ``multirun``. ``overrides`` are in the order of typing."""

    flags: dict[str, Any]
    overrides: tuple[str, ...]

    @property
    def shows_only(self) -> bool:
        """Whether the flags only show something, so that no job starts."""
        return any(self.flags.get(name) for name in SHOWING_FLAGS)

    def replaced(self, overrides: Sequence[str], **flags: Any) -> "Arguments":
        """The same arguments with other overrides and further flags."""
        return replace(self, flags={**self.flags, **flags}, overrides=tuple(map(with_quoted_path, overrides)))

    def argv(self) -> list[str]:
        """The words for Hydra's parser, which needs all flags before the first override."""
        words = []
        for name, value in self.flags.items():
            flag = "--" + name.replace("_", "-")
            words += [flag] if value is True else [f"{flag}={value}"] if value not in (None, False) else []
        return [*words, *self.overrides]


def _flags() -> dict[tuple[str, ...], dict[str, Any]]:
    """The names of each flag, with its options for argparse."""
    info = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    switches: dict[tuple[str, ...], dict[str, Any]] = {names: {"action": "store_true"} for names in SWITCHES}
    valued: dict[tuple[str, ...], dict[str, Any]] = {names: {} for names in VALUED}
    shown: dict[tuple[str, ...], dict[str, Any]] = {
        ("--cfg", "-c"): {"choices": ["job", "hydra", "all"]},
        ("--info", "-i"): {"const": "all", "nargs": "?", "choices": info},
    }
    return switches | valued | shown


def _check_dashes(argv: Sequence[str], names: Sequence[str]) -> None:
    """Raises UsageError for an unknown flag, such as ``--lr=1``."""
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
    """The override with its path in quotes, if Hydra's grammar cannot read the path: it has braces, a pattern, an accent or
    ``=``. Several values, with commas outside braces, stay as they are."""
    free = _FREE_TEXT.fullmatch(override)
    if free:
        return f"{free[1]}={hydra_quoted(free[2])}"
    found = _PATH.fullmatch(override)
    if found is None or not _NEEDS_QUOTES.search(found[2]) or "," in re.sub(r"\{[^{}]*\}", "", found[2]):
        return override
    return f"{found[1]}={hydra_quoted(found[2])}"


def _check_braces(overrides: Sequence[str]) -> None:
    """Raises UsageError when a key has several paths, because the shell expanded braces. Only the last would be used."""
    typed = [found.groups() for found in map(_ANY_PATH.fullmatch, overrides) if found]
    for key, value in typed:
        others = [other for name, other in typed if name == key and other != value]
        if others:
            raise UsageError(
                f"{key}: it is typed {1 + len(others)} times, {value}, {others[0]}, …; did the shell expand braces? put the "
                f'word in quotes: "{key}=/a/{{0..9}}.tar"'
            )


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Parse a command line. Raises UsageError that names the word that cannot be read."""
    for word in argv:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UsageError(f"{word!a}: these bytes are not UTF-8; type the value in UTF-8")
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
