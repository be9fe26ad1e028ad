"""Find the model that a command names by ``run=``, ``ckpt=`` or ``pretrained=``, or ``cliplab.load`` by its path. Nothing of
the model is read.

Each of them accepts a checkpoint file, a run folder, a run's ``checkpoints`` folder, a folder that holds exactly one run,
and a file or folder of foreign weights. Only ``pretrained=`` and ``cliplab.load`` accept a name on a hub (``owner/name``,
``open_clip:<model>:<tag>``).
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cliplab.checkpoints.open_clip_names import model_and_place
from cliplab.checkpoints.spec import OPEN_CLIP, OPEN_CLIP_CONFIG, SUFFIXES
from cliplab.files import read_yaml
from cliplab.settings.config import ConfigError, did_you_mean

KEYS = ("ckpt", "run", "pretrained")
LOAD = "cliplab.load"
FOREIGN = ("config.json", OPEN_CLIP_CONFIG)  # files that mark a folder of foreign weights
DEEPEST = 4  # levels below a folder that are searched for runs
MOST_LISTED = 4
WAYS = "ckpt=<run>/checkpoints/last.ckpt, run=<run folder> or pretrained=<foreign weights>"


class ModelSource(NamedTuple):
    """``key`` is the key that named the model. ``spec`` is a file, a folder of foreign weights, or a name on a hub. With
    ``weights="ema"`` it is the moving average in a checkpoint of cliplab."""

    key: str
    spec: str
    weights: str = "raw"


def model_sources(config: Mapping[str, Any]) -> list[ModelSource]:
    """Every model that the command names; each key may hold a list. Raises ConfigError as ``model_source`` does."""
    given = [(key, config.get(key)) for key in KEYS if config.get(key)]
    if not any(isinstance(value, list) for _, value in given):
        return [model_source(config)]
    pairs = [(key, one) for key, value in given for one in (value if isinstance(value, list) else [value])]
    if len(pairs) < 2:
        raise ConfigError(f"{given[0][0]}: a list needs two models or more; leave out the brackets for one")
    return [named_model(key, one)._replace(weights=config.get("weights", "raw")) for key, one in pairs]


def model_source(config: Mapping[str, Any]) -> ModelSource:
    """The one model that the command names. Raises ConfigError unless exactly one key names exactly one existing model."""
    given = [key for key in KEYS if config.get(key)]
    task = config["task"]["name"]
    if not given:
        raise ConfigError(f"ckpt: task={task} needs a model: {WAYS}")
    if len(given) > 1:
        raise ConfigError(f"{given[0]}: {' and '.join(given)} are given; one is enough: {WAYS}")
    (key,) = given
    if isinstance(config[key], list):
        raise ConfigError(f"{key}: task={task} takes one model, not a list of {len(config[key])}")
    return named_model(key, config[key])._replace(weights=config.get("weights", "raw"))


def config_of_run(source: ModelSource) -> dict[str, Any] | None:
    """The config of the run that wrote a checkpoint, while the checkpoint is in its folder; else None."""
    file = Path(source.spec).parent.parent / "config.yaml"
    try:
        config = read_yaml(file) if Path(source.spec).parent.name == "checkpoints" else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def _ways(key: str) -> str:
    return "name a run folder, its checkpoint or foreign weights" if key == LOAD else WAYS


def named_run(key: str, value: Any) -> Path:
    """The folder of the run, comparison or multirun that ``value`` names: that folder itself, something inside it, or a
    folder that holds exactly one run. Raises ConfigError when there is none."""
    path = existing(key, value)
    for folder in (path, *list(path.parents)[:2]):
        if any((folder / name).is_file() for name in ("manifest.json", "comparison.json", "summary.csv")):
            return folder
    if path.is_file():
        raise ConfigError(f"{key}: {path} does not belong to a run; name the folder of the run")
    none = f"no run; name the folder of one, as {key}=logs/train/<experiment>/<run>"
    return only_one(key, path, folders_with(path, "manifest.json"), none)


def named_model(key: str, value: Any) -> ModelSource:
    """The model that ``value`` names. Raises ConfigError when there is none."""
    if isinstance(value, Mapping | list | bool):
        raise ConfigError(f"{key}: {value!r} is not a path; {_ways(key)}")
    name = str(value)
    address = re.match(r"\w+://|hf-hub:", name)
    if address:
        way = f"pretrained={name[7:]}" if address[0] == "hf-hub:" else "fetch the file, and name it here"
        raise ConfigError(f"{key}: weights are not read from {name}; {way}")
    path = Path(name).expanduser()
    repository = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and path.suffix not in SUFFIXES
    if (name.startswith(OPEN_CLIP) or repository) and not path.exists():
        if key not in ("pretrained", LOAD):
            raise ConfigError(_missing_message(key, path) + f"; for weights on a hub: pretrained={name}")
        return ModelSource(key, _checked_name(key, name))
    path = existing(key, name)
    if path.is_file() and path.suffix not in SUFFIXES and not _looks_like_weights(path):
        raise ConfigError(f"{key}: {path} is not a file of weights; {_ways(key)}")
    return ModelSource(key, str(path if path.is_file() else _weights_in(key, path)))


def _checked_name(key: str, name: str) -> str:
    if name.startswith(OPEN_CLIP):
        try:
            model_and_place(name)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"{key}: {error}") from error
    return name


def _looks_like_weights(path: Path) -> bool:
    """By the first bytes: a zip archive or a pickle of torch, or the header of safetensors."""
    with path.open("rb") as file:
        start = file.read(9)
    return start.startswith((b"PK", b"\x80")) or start[8:] == b"{"


def existing(key: str, value: Any) -> Path:
    """Raises ConfigError, with the name that was meant, where there is no such file or folder."""
    path = Path(str(value)).expanduser()
    if not path.exists():
        raise ConfigError(_missing_message(key, path))
    return path


def _missing_message(key: str, path: Path) -> str:
    parent = next(folder for folder in path.parents if folder.exists())
    missing = path.relative_to(parent).parts[0]
    beside = [entry.name for entry in parent.iterdir()] if parent.is_dir() and str(parent) != parent.anchor else []
    hint = did_you_mean(missing, beside)
    where = f" in {parent}" if hint and len(path.parts) > 1 else ""
    return f"{key}: {path} is neither a file nor a folder{hint}{where}"


def _weights_in(key: str, folder: Path) -> Path:
    """The last checkpoint of the run in a folder, or the folder itself when it holds foreign weights."""
    checkpoints = folder if folder.name == "checkpoints" or (folder / "last.ckpt").is_file() else folder / "checkpoints"
    if checkpoints.is_dir():
        return _last_checkpoint(key, checkpoints)
    files = [entry for entry in folder.iterdir() if entry.is_file()]
    if any(file.name in FOREIGN or file.suffix in SUFFIXES for file in files):
        return folder
    if (folder / "manifest.json").is_file():
        raise ConfigError(f"{key}: {folder} {_no_checkpoint_message(folder)}")
    mark = "checkpoints/last.ckpt"
    none = f"neither a run with a last.ckpt nor weights; {_ways(key)}"
    return only_one(key, folder, folders_with(folder, mark), none) / mark


def _last_checkpoint(key: str, checkpoints: Path) -> Path:
    last = checkpoints / "last.ckpt"
    if last.is_file():
        return last
    others = sorted(checkpoints.glob("*.ckpt"))
    if others:
        raise ConfigError(f"{key}: there is no last.ckpt in {checkpoints}; name the one you want, ckpt={others[0]}")
    raise ConfigError(
        f"{key}: there is no checkpoint in {checkpoints} yet; go on with the run, resume={checkpoints.parent}"
    )


def _no_checkpoint_message(folder: Path) -> str:
    facts = json.loads((folder / "manifest.json").read_text(encoding="utf8"))
    model = facts.get("checkpoint")
    used = f"; it used {model}" if model else ""
    return f"is a folder of task={facts.get('task')}, which does not write a checkpoint{used}"


def folders_with(folder: Path, mark: str) -> list[Path]:
    """The folders below a folder that hold this file, the newest first."""
    marks = [file for depth in range(1, DEEPEST + 1) for file in folder.glob("*/" * depth + mark)]
    return [file.parents[mark.count("/")] for file in sorted(marks, key=lambda file: -file.stat().st_mtime)]


def only_one(key: str, folder: Path, runs: Sequence[Path], none: str) -> Path:
    """The only one of these runs below a folder. Raises ConfigError that says that it holds ``none``, or lists the newest of
    several."""
    if not runs:
        raise ConfigError(f"{key}: {folder} holds {none}")
    if len(runs) > 1:
        newest = ", ".join(str(run.relative_to(folder)) for run in runs[:MOST_LISTED])
        raise ConfigError(f"{key}: {folder} holds {len(runs)} runs; name one of them, the newest first: {newest}")
    return runs[0]
