"""Completion of the command in a shell, answered in a moment: config files are read as text, nothing is composed.

``python run.py -sc install=bash`` prints what the shell is told; it asks ``-sc query=bash`` at each TAB, with the line so
far in COMP_LINE.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cliplab.cli import places
from cliplab.cli.help import settings

FLAGS = ("--help", "--version", "--multirun", "--cfg", "--resolve", "--package", "--info", "--shell-completion")
SHELLS = ("bash", "zsh", "fish")
OPTION = re.compile(r"-sc|--shell-completion")
OWN_SPACE = ("sweep", "launcher", "hydra", "paths", "local")  # groups of which no key is a value of the model
PATHS = re.compile(r"(.*\bpath|run|resume|ckpt|pretrained|images|labels|out|query|delete)")
SPECIAL = re.compile(r"[\s'\"\\$&;|<>()`]")  # what a shell does not read as it stands
MOST_KEYS = 40  # beyond it, keys are offered part by part

BASH = """\
_cliplab_complete() {
  local program="${COMP_WORDS[0]}"
  case "$program" in
    *python*) [[ "${COMP_WORDS[1]}" == *run.py && -f "${COMP_WORDS[1]}" ]] || return 0
              program="$program ${COMP_WORDS[1]}" ;;
  esac
  local IFS=$'\\n'
  COMPREPLY=($(COMP_LINE="${COMP_LINE:0:$COMP_POINT}" eval "$program -sc query=bash" 2>/dev/null))
}
complete -o nospace -o bashdefault -o default -F _cliplab_complete cliplab python python3
"""
ZSH = """\
_cliplab_complete() {
  local -a program found
  program=("${words[1]}")
  case "${words[1]}" in
    *python*) if [[ "${words[2]}" != *run.py || ! -f "${words[2]}" ]]; then _default; return; fi
              program+=("${words[2]}") ;;
  esac
  found=("${(@f)$(COMP_LINE="${words[1,CURRENT-1]} ${QIPREFIX}${PREFIX}" "${program[@]}" -sc query=zsh 2>/dev/null)}")
  compadd -S '' -- ${found:#}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u }
compdef _cliplab_complete cliplab python python3
"""
FISH = """\
function __cliplab_is_run
  set -l words (commandline -opc)
  string match -q '*run.py' -- $words[2]; and test -f $words[2]
end
function __cliplab_complete
  set -l words (commandline -opc)
  set -l program $words[1]
  string match -q '*python*' -- $program; and set program $words[1..2]
  set -lx COMP_LINE (commandline -cp)
  command $program -sc query=fish 2>/dev/null
end
complete -c cliplab -f -a '(__cliplab_complete)'
complete -c python -f -n __cliplab_is_run -a '(__cliplab_complete)'
complete -c python3 -f -n __cliplab_is_run -a '(__cliplab_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def asked_of(argv: Sequence[str]) -> tuple[str, str] | None:
    """What ``-sc`` asks for, as (``install`` or ``query``, shell); None when the command line has no such flag."""
    for place, word in enumerate(argv):
        flag, _, value = word.partition("=")
        if OPTION.fullmatch(flag):
            value = value or next(iter(argv[place + 1 :]), "")
            what, _, shell = value.partition("=")
            return what, shell
    return None


def answer(what: str, shell: str) -> str:
    """What is printed. Raises ValueError for an unknown shell or question."""
    if what not in ("install", "query", "uninstall") or shell not in SHELLS:
        ways = " or ".join(f'eval "$(python run.py -sc install={name})"' for name in SHELLS[:2])
        raise ValueError(f"-sc {what}={shell}: completion is there for bash, zsh and fish: {ways}; see the README")
    if what == "install":
        return SCRIPTS[shell]
    if what == "uninstall":
        return "complete -r cliplab python python3\n" if shell == "bash" else ""
    *typed, word, quotes = split(os.environ.get("COMP_LINE", ""))
    found = sorted(set(candidates(word, typed)))
    if shell == "bash" and not quotes:  # it takes what follows = or : as a word of its own, and escapes nothing
        cut = max(word.rfind("="), word.rfind(":")) + 1
        found = [SPECIAL.sub(r"\\\g<0>", text[cut:]) for text in found]
    return "".join(f"{text}\n" for text in found)


def split(line: str) -> list[str]:
    """The words of a line that is being typed, without their quotes and escapes, and the quotes that the last word has. The
    last word may be empty."""
    words, quotes, quote, escaped = [""], "", "", False
    for character in line:
        if escaped or (character != quote and quote == "'"):
            words[-1], escaped = words[-1] + character, False
        elif character == "\\":
            escaped = True
        elif character in "'\"" and quote in ("", character):
            quote, quotes = "" if quote else character, quotes + character
        elif character == " " and not quote:
            words, quotes = [*words, ""] if words[-1] else words, ""
        else:
            words[-1] += character
    return [*words, quotes]


def print_answer(what: str, shell: str) -> None:
    """Exits with a message for what is not there."""
    try:
        print(answer(what, shell), end="")
    except ValueError as error:
        sys.exit(f"error: {error}")


def candidates(word: str, typed: Sequence[str]) -> Iterator[str]:
    """Whole words that begin with ``word``."""
    key, equals, value = word.partition("=")
    sign = re.match(r"[+~]*", key)
    bare = key[sign.end() :] if sign else key
    if equals:
        before, several, last = value.rpartition(",")
        head = f"{key}={before}{several}"
        yield from (head + text for text in _values(bare, last, typed) if text.startswith(last))
        return
    if word.startswith("-"):
        yield from (flag for flag in FLAGS if flag.startswith(word))
        return
    lead = word[: len(word) - len(bare)]
    groups = [f"{group}=" for group in places.groups() if group not in ("hydra", "paths")]
    yield from (lead + group for group in groups if group.startswith(bare))
    yield from (lead + text for text in _by_part(bare, [key for key, _ in keys(typed) if key.startswith(bare)]))


def _by_part(word: str, found: Sequence[str]) -> list[str]:
    """``optimizer.lr=`` for a key; ``optimizer.`` for several that begin so, where there are many or nothing is typed."""
    if len(found) <= MOST_KEYS and "." in word:
        return [f"{key}=" for key in found]
    parts = {key[: key.find(".", len(word)) + 1] if "." in key[len(word) :] else f"{key}=" for key in found}
    return sorted(parts)


def _values(key: str, begun: str, typed: Sequence[str]) -> list[str]:
    choices = places.groups().get(key)
    if choices is not None:
        return choices
    default = dict(keys(typed)).get(key, "")
    if default in ("true", "false"):
        return ["true", "false"]
    if PATHS.fullmatch(key):
        return _files(begun) + (["auto"] if key == "resume" else [])
    return [default] if default and default not in ("null", "???") and "${" not in default else []


def _files(begun: str) -> list[str]:
    """Files and folders that begin so; a folder with its slash."""
    path = Path(begun).expanduser()
    folder = path if begun.endswith("/") or not begun else path.parent
    shown = begun[: begun.rfind("/") + 1]
    try:
        inside = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return []
    return [f"{shown}{entry.name}{'/' if entry.is_dir() else ''}" for entry in inside]


def keys(typed: Sequence[str]) -> list[tuple[str, str]]:
    """The keys of the config that this command line would compose, with their values as written."""
    root = places.config_dir()
    chosen = dict(_defaults(root / "config.yaml"))
    words = dict(word.lstrip("+").split("=", 1) for word in typed if "=" in word)
    for group in ("experiment", "sweep", "debug"):  # files that choose others
        name = words.get(group, chosen.get(group, ""))
        chosen |= {key: value for key, value in _defaults(root / group / f"{name}.yaml") if key}
    chosen |= {key: value for key, value in words.items() if (root / key / f"{value}.yaml").is_file()}
    found: dict[str, str] = {}
    for group, name in chosen.items():
        if group not in ("hydra", "local"):
            found |= _of_file(root, group, name)
    found |= {s.key: s.value for s in settings(root / "config.yaml") if "." not in s.key}
    return sorted(found.items())


def _of_file(root: Path, group: str, name: str, depth: int = 0) -> dict[str, str]:
    """The keys of a choice, after those of the files that it begins with."""
    file = root / group / f"{name}.yaml"
    if not file.is_file() or depth > 4:
        return {}
    found: dict[str, str] = {}
    for key, value in _defaults(file):
        if not key:
            found |= _of_file(root, group, value, depth + 1)
    whole = "@package _global_" in file.read_text(encoding="utf8")[:200]
    return found | {s.key: s.value for s in settings(file, "" if whole else group.replace("/", ".") + ".")}


def _defaults(file: Path) -> list[tuple[str, str]]:
    """The entries of a config's defaults list, as (group, choice); the group of a file of the same folder is empty."""
    if not file.is_file():
        return []
    entries, inside = [], False
    for line in file.read_text(encoding="utf8").splitlines():
        if line.startswith("defaults:"):
            inside = True
        elif inside and (found := re.match(r"\s+- (?:override |optional )*/?([\w/]+)(?:: *([\w.]+))?", line)):
            group, choice = found[1], found[2]
            entries.append((group, choice) if choice else ("", group))
        elif inside and line.strip() and not line.startswith(" "):
            break
    return [(group, choice) for group, choice in entries if choice != "_self_" and group != "_self_"]
