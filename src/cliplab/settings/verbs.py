"""Find, check and run the verb that ``task=`` names.

A verb is one file in ``tasks/`` and one in ``configs/task/``. The file has ``run(job) -> Outcome`` and may have

- ``Options``, a TypedDict of the values that its config sets under ``task``. It is read from the source code.
- ``check(job)``, which raises ConfigError for mistakes that can be found without torch. Such a file imports torch inside
  ``run``, so that the check runs before the seconds that the import takes.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cliplab.checkpoints.spec import WEIGHTS, no_average
from cliplab.settings.annotations import problem
from cliplab.settings.config import ConfigError, did_you_mean, value_at
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import KEYS, ModelSource, config_of_run, model_sources
from cliplab.settings.signatures import NotThere, read_fields

COMMON_OPTIONS = ("name", "function", "builds")
WITHOUT_MODEL = ("report", "compare", "runs", "reproduce")  # tasks whose run= names a folder and not a model


def run_verb(job: Job) -> Outcome:
    """Call the ``run`` of the verb."""
    run: Callable[[Job], Outcome] = getattr(_module(job.config["task"]), _function(job.config["task"])[1])
    return run(job)


def check_verb(job: Job) -> None:
    """Check the options of the task and the model that is named, then call the verb's own ``check``. Raises ConfigError."""
    task = job.config["task"]
    _check_options(task)
    named = any(job.config[key] for key in KEYS)
    sources = model_sources(job.config) if named and task["name"] not in WITHOUT_MODEL else []
    _check_weights(job.config.get("weights", "raw"), named, sources)
    _check_tower(job.config["pretrained_tower"], task["name"], named)
    check = vars(_module(task)).get("check")
    if check is not None:
        check(job)


def _check_weights(choice: Any, named: bool, sources: Sequence[ModelSource]) -> None:
    """``weights`` must be raw or ema. It says which weights of a named model are meant, and the run that trained it must
    have kept them."""
    if choice not in WEIGHTS:
        raise ConfigError(f"weights: {choice!r} must be raw, those that were trained, or ema, their moving average")
    if choice == "ema" and not named:
        raise ConfigError("weights: ema says which weights of a model are meant; name the model by run= or ckpt=")
    for source in sources if choice == "ema" else ():
        config = config_of_run(source)
        kept = [value_at(node, "_target_", "") for node in ((config or {}).get("callbacks") or {}).values()]
        if config is not None and not any(str(target).endswith(".AverageWeights") for target in kept):
            raise ConfigError(no_average(source.spec))


def _check_tower(choice: Any, task: str, named: bool) -> None:
    """``pretrained_tower`` must be image or text. It is for training, beside ``pretrained=``."""
    if choice is None:
        return
    if choice not in ("image", "text"):
        raise ConfigError(f"pretrained_tower: {choice!r} is neither image nor text; null takes both")
    if task != "train":
        raise ConfigError(f"pretrained_tower: task={task} needs both towers; leave this out")
    if not named:
        raise ConfigError("pretrained_tower: it says which tower pretrained= fills; give pretrained=<weights> too")


def _function(task: Mapping[str, Any]) -> tuple[str, str]:
    module, _, name = str(task.get("function")).rpartition(".")
    return module, name


def _module(task: Mapping[str, Any]) -> Any:
    module, name = _function(task)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"task.function: {task['function']} cannot be imported: {error}") from error
    if not hasattr(found, name):
        raise ConfigError(f"task.function: there is no {name!r} in {module}{did_you_mean(name, vars(found))}")
    return found


def _check_options(task: Mapping[str, Any]) -> None:
    try:
        known = read_fields(f"{_function(task)[0]}.Options")
    except NotThere:
        return
    if known is None:
        return
    given = {key: value for key, value in task.items() if key not in COMMON_OPTIONS}
    for key, value in given.items():
        if key not in known:
            raise ConfigError(f"task.{key}: task={task['name']} has no such option{did_you_mean(key, known)}")
        wrong = problem(value, known[key].annotation)
        if wrong:
            raise ConfigError(f"task.{key}: {wrong}")
