"""How the user started cliplab, so that a message or a page prints commands that can be typed."""

import os
import re
import shlex
from pathlib import Path

STARTED = "CLIPLAB_COMMAND"  # in the environment, for processes that a launcher starts
SWEEP_JOB = "CLIPLAB_SWEEP_JOB"  # in the environment of a job's process: the id of the one that waits for it
PLAIN = re.compile(r"[A-Za-z_/.][\w/.@+%-]*", re.ASCII)  # a value that Hydra's grammar reads as this very text
WORDS = ("null", "true", "false", "nan", "inf")  # that it reads as something else


def started_by(first: str) -> str:
    """The beginning of a command line, from ``sys.argv[0]``."""
    name = Path(first).name
    if name == "__main__.py":
        return "python -m cliplab"
    return f"python {shell_quoted(first)}" if name.endswith(".py") else "cliplab"


def command() -> str:
    """What the user types to start cliplab: ``python run.py``, ``cliplab`` or ``python -m cliplab``."""
    return os.environ.get(STARTED, "cliplab")


def command_line(*overrides: str) -> str:
    """A command that a shell and Hydra read as these overrides."""
    return " ".join([command(), *map(shell_quoted, overrides)])


def shell_quoted(word: str) -> str:
    """One word of a POSIX shell, with double quotes where single ones stand in it."""
    if "'" in word and not re.search(r'["$`\\!]', word):
        return f'"{word}"'
    return shlex.quote(word)


def hydra_quoted(value: object) -> str:
    """A text as Hydra's grammar of overrides reads it back, in single quotes where it needs them."""
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in WORDS:
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text).replace("${", "\\${")
    return f"'{escaped}'"


def hydra_unquoted(text: str) -> str:
    """The text of a value that may stand in quotes."""
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        return text
    quote = re.escape(text[0])
    inner = re.sub(rf"(\\+)({quote}|$)", lambda m: m[1][: len(m[1]) // 2] + m[2], text[1:-1])
    return inner.replace("\\${", "${")
