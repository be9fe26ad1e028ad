"""task=compare: several runs beside each other; and task=evaluate of several weights at once."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliplab.reporting.comparison import write_comparison
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job


def run(job: Job) -> None:
    """Compare the run folders of ``run=[<dir>,<dir>,…]`` and print the page's path."""
    config = job.config
    folders = config["run"]
    if not isinstance(folders, list) or len(folders) < 2:
        raise ConfigError("run: task=compare needs two run folders or more; run=[<dir>,<dir>]")
    for folder in folders:
        if not Path(folder).is_dir():
            raise ConfigError(f"run: {folder} is no folder")
    print(write_comparison(Path(config["paths"]["run"]), [Path(folder) for folder in folders]))


def sources(cfg: Any) -> list[tuple[str, str]]:
    """What task=evaluate was given, each as (``ckpt`` or ``pretrained``, value); both may be lists."""
    given = [(key, cfg[key] or []) for key in ("ckpt", "pretrained")]
    return [(key, one) for key, value in given for one in ([value] if isinstance(value, str) else list(value))]


def evaluate_each(cfg: Any, overrides: Sequence[str], evaluate: Any) -> None:
    """Evaluate every source into a folder of its own within this run's folder, then compare them there."""
    out = Path(cfg.paths.run)
    given = sources(cfg)
    if len(given) < 2:
        raise ConfigError("ckpt: a list needs two checkpoints or more; without brackets for one")
    for key, value in given:
        if key == "ckpt" and not Path(value).is_file():
            raise ConfigError(f"ckpt: {value} is no file")
    folders = []
    for number, (key, value) in enumerate(given, start=1):
        one = copy.deepcopy(cfg)
        one.ckpt = one.pretrained = None
        one[key] = value
        slug = re.sub(r"[^\w.-]+", "-", Path(value).stem).strip("-.")
        one.paths.run = str(out / f"{number}-{slug}")
        folders.append(Path(one.paths.run))
        print(f"{number} of {len(given)}: {value}")
        evaluate(one, overrides)
    print(write_comparison(out, folders))
