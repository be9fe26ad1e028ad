"""Name the folder of a command's results after the model that is named, or else after the experiment."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cliplab.cli import places
from cliplab.program import hydra_unquoted
from cliplab.runs.outcome import read_manifest
from cliplab.settings.config import ConfigError
from cliplab.settings.model_source import KEYS, SUFFIXES, model_sources

NAMED_BY_EXPERIMENT = (
    "train",
    "data",
    "lr_find",
    "prepare",
    "benchmark",
    "plan",
)  # tasks that do not use the results of a run


def results_name(_root_: Any) -> str:
    """The name for ``${results_name:}`` in configs. A typed ``name=`` comes first. Nothing of the model is read."""
    typed = _root_.hydra.overrides.task
    if _root_.task.name in NAMED_BY_EXPERIMENT or any(str(o).startswith("name=") for o in typed):
        return str(_root_.name)
    given = {key: OmegaConf.select(_root_, key) for key in KEYS}
    plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in given.items() if v}
    if not plain and _root_.task.name == "search":
        plain = _maker_of_table(_root_.get("images"))
    names = list(dict.fromkeys(_names({**plain, "task": {"name": _root_.task.name}})))
    return str(_root_.name) if not names else names[0] if len(names) == 1 else "several"


def experiment_as_name(override: str) -> str:
    """``experiment=`` of task=runs may be any name that runs have, by ``name=`` or by a file that is gone."""
    key, _, value = override.partition("=")
    known = (places.config_dir() / "experiment" / f"{value}.yaml").is_file()
    return f"name={value}" if key == "experiment" and value and not known else override


def _maker_of_table(images: Any) -> dict[str, Any]:
    """The model that made the table of embeddings that is searched, as ``pretrained``. Nothing for other pictures."""
    from cliplab.tasks.search import TABLES

    if not str(images).endswith(TABLES):
        return {}
    from cliplab.embedding.facts import maker_of

    try:
        made_by = maker_of(Path(str(images)).expanduser())
    except ValueError:  # the task reports it
        return {}
    return {"pretrained": made_by} if made_by else {}


def sweep_folder(otherwise: str, _root_: Any) -> str:
    """A resolver of Hydra's configs: ``sweep_name=`` as it was typed (1e3 and 2026.10 are no numbers here), or else the name
    that is given."""
    named = OmegaConf.select(_root_, "sweep_name")
    typed = [str(word).partition("=")[2] for word in _root_.hydra.overrides.task if str(word).startswith("sweep_name=")]
    return otherwise if named in (None, "") else hydra_unquoted(typed[-1]) if typed else str(named)


def _names(config: Mapping[str, Any]) -> list[str]:
    try:
        specs = [source.spec for source in model_sources(config)]
    except ConfigError:  # the task reports the mistake; task=report and task=compare accept folders of any task
        values = [config[key] for key in KEYS if key in config]
        specs = [str(one) for value in values for one in (value if isinstance(value, list) else [value])]
    return [model_name(spec) for spec in specs]


def model_name(spec: str) -> str:
    """The experiment of a run or a checkpoint, or the name of foreign weights: ``ViT-B-32`` for ViT-B-32.pt."""
    path = Path(spec).expanduser()
    for folder in (path, *list(path.parents)[:2]):
        name = read_manifest(folder).get("run_name")
        if name:
            return str(name)
    if spec.startswith("open_clip:"):
        _, model, tag = [*spec.split(":", 2), "", ""][:3]
        words = [model, _stem(Path(tag).name)]
    else:
        words = [_stem(path.resolve().name or spec)]
    return re.sub(r"[^\w.-]+", "-", "-".join(filter(None, words))).strip("-.") or "model"


def _stem(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
