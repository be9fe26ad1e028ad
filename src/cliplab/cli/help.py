"""--help: list the tasks and groups, or describe a chosen config, from the comments in the configs."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cliplab.cli import places
from cliplab.cli.arguments import Arguments, UsageError
from cliplab.program import command

EXAMPLES = """\
cliplab: contrastive image-text pre-training, zero-shot evaluation, reports.

  {command}                                   train on the embedded emoji data and write a report
  {command} experiment=vit_b32                CLIP ViT-B/32 as in the paper
  {command} experiment=vit_b32 data=emoji zeroshot=emoji trainer=cpu data.batch_size=32 trainer.max_steps=20
  {command} optimizer.lr=3e-4 seed=2          any value of the config can be overridden
  {command} -m experiment=emoji optimizer.lr=3e-4,1e-3 seed=1,2      multirun sweep and leaderboard
  {command} -m experiment=emoji sweep=tpe     search instead of a grid
  {command} resume=logs/train/emoji/<run>     resume a run where it stopped, in the same folder
  {command} --cfg job                         print the config and stop
"""
LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w]+):(?: +(?P<value>(?:[^#\s]|\S#| +(?!#))+))?(?: *# (?P<comment>.*))?$")


class Setting(NamedTuple):
    """A line of a config: its dotted key, its value as it is written, and its comment."""

    key: str
    value: str
    comment: str


def header(file: Path) -> list[str]:
    """The comment lines at the beginning of a config, without the line for Hydra."""
    lines = []
    for line in file.read_text(encoding="utf8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line[1:].removeprefix(" "))
    return lines


def settings(file: Path, prefix: str = "") -> Iterator[Setting]:
    """The lines of a config that set a value."""
    above: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf8").splitlines():
        found = LINE.match(line)
        if not found:
            continue
        depth = len(found["indent"])
        above = [(d, key) for d, key in above if d < depth]
        key = ".".join([*(key for _, key in above), found["key"]])
        if above and above[0][1] == "defaults":
            continue
        above.append((depth, found["key"]))
        if found["value"] and not found["key"].startswith("_"):
            yield Setting(prefix + key, found["value"].strip(), found["comment"] or "")


def help_text(arguments: Arguments) -> str:
    """The help for the choices that were typed, or for the whole command. A task may be typed as a bare word,
    and several choices with commas between them.

    Raises UsageError for a choice that there is not.
    """
    known = places.groups()
    overrides = [f"task={o}" if o in known["task"] else o for o in arguments.overrides]
    typed = [override.lstrip("+").partition("=") for override in overrides]
    pairs = [(group, one.strip()) for group, _, names in typed for one in names.split(",")]
    for group, name in pairs:
        if group in known and re.fullmatch(r"[\w-]+", name) and name not in (*known[group], "null"):
            near = difflib.get_close_matches(name, known[group], n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(f"{group}: there is no choice {name!r}; {hint}the choices are {', '.join(known[group])}")
    chosen = [(group, name) for group, name in pairs if (places.config_dir() / group / f"{name}.yaml").is_file()]
    if not chosen:
        return _overview()
    return "\n\n".join(_about(group, name) for group, name in chosen)


def _overview() -> str:
    parts = [EXAMPLES.format(command=command()), "Tasks (task=<name> --help lists the options of a task):"]
    for name in places.choices(places.config_dir() / "task"):
        what = header(places.config_dir() / "task" / f"{name}.yaml")
        parts.append(f"  {name:<10} {what[0] if what else ''}")
    parts.append("\nGroups (group=choice):")
    parts += [
        f"  {group}: {' '.join(names)}" for group, names in places.groups().items() if group not in ("hydra", "paths")
    ]
    parts.append(f"\nShow a group's values: {command()} --cfg job --package <group>")
    return "\n".join(parts)


def _about(group: str, name: str) -> str:
    """One choice of a group: its header, the top-level keys that the header names, and its values."""
    file = places.config_dir() / group / f"{name}.yaml"
    lines = header(file)
    is_global = "# @package _global_" in file.read_text(encoding="utf8")
    text = [f"{group}={name}: {lines[0]}" if lines else f"{group}={name}"]
    for line in lines[1:]:
        text.append(f"  {command()} {line}" if line.startswith(f"{group}=") else f"  {line}")
    named = set(re.findall(r"\b(\w+)=", " ".join(lines)))
    base = [s for s in settings(places.config_dir() / "config.yaml") if s.key in named]
    values = [
        s for s in settings(file, "" if is_global else group.replace("/", ".") + ".") if not s.key.endswith(HIDDEN)
    ]
    for title, found in (("Keys:", base), ("Options:", values)):
        if found:
            width = max(len(f"{s.key}={s.value}") for s in found)
            text += ["", title]
            text += [f"  {f'{s.key}={s.value}':<{min(width, 40)}}  {s.comment}".rstrip() for s in found]
    return "\n".join(text)


HIDDEN = ("task.name", "task.function")
