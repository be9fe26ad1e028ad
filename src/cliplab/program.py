"""How the user started cliplab, so that messages and pages print commands that can be typed."""

import os
import re
import shlex
from pathlib import Path

COMMAND_VARIABLE = "CLIPLAB_COMMAND"  # in the environment, so that the processes of a launcher know it
SWEEP_JOB = "CLIPLAB_SWEEP_JOB"  # in the environment of a job's process: the id of the one that waits for it
PLAIN = re.compile(r"[A-Za-z_/.][\w/.@+%-]*", re.ASCII)  # a value that Hydra's grammar reads as this text
KEYWORDS = ("null", "true", "false", "nan", "inf")  # words that the grammar reads as other values


def started_by(first: str) -> str:
    """The command that started this process, from ``sys.argv[0]``."""
    name = Path(first).name
    if name == "__main__.py":
        return "python -m cliplab"
    return f"python {shell_quoted(first)}" if name.endswith(".py") else "cliplab"


def command() -> str:
    """The command that starts cliplab: ``python run.py``, ``cliplab`` or ``python -m cliplab``."""
    return os.environ.get(COMMAND_VARIABLE, "cliplab")


def command_line(*overrides: str) -> str:
    """A command line with these overrides, quoted for a shell."""
    return " ".join([command(), *map(shell_quoted, overrides)])


def shell_quoted(word: str) -> str:
    """One word for a POSIX shell. A word that holds single quotes is put in double quotes."""
    if "'" in word and not re.search(r'["$`\\!]', word):
        return f'"{word}"'
    return shlex.quote(word)


def key_of(override: str) -> str:
    """The key of an override, without its value and signs."""
    return override.lstrip("+~").split("=")[0]


def hydra_quoted(value: object) -> str:
    """A value as Hydra's grammar of overrides reads it, in single quotes if it needs them."""
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in KEYWORDS:
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text).replace("${", "\\${")
    return f"'{escaped}'"


def hydra_unquoted(text: str) -> str:
    """The text of a value that may be in quotes."""
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        return text
    quote = re.escape(text[0])
    inner = re.sub(rf"(\\+)({quote}|$)", lambda m: m[1][: len(m[1]) // 2] + m[2], text[1:-1])
    return inner.replace("\\${", "${")
