"""A run's folder: the config it was made from, and the experiment's name."""

from pathlib import Path
from typing import Any

import yaml

from cliplab.checkpoints.run_checkpoint import without_definitions
from cliplab.settings.config import save_yaml
from cliplab.settings.interpolations import with_interpolations
from cliplab.settings.job import Job


def save_config(config: dict[str, Any], job: Job) -> None:
    """Write into the job's folder config.yaml, the truth about the run; composed.yaml, the same with the references from key
    to key, from which resume= composes; and overrides.yaml, to which values typed beside resume= are added.

    Definitions of tokenizers are left out: they are long and travel in checkpoints only."""
    run_dir = job.run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    typed = run_dir / "overrides.yaml"
    earlier = yaml.safe_load(typed.read_text(encoding="utf8")) if typed.is_file() else []
    written = without_definitions(config)
    save_yaml(run_dir / "composed.yaml", with_interpolations(written, job.composed))
    save_yaml(run_dir / "config.yaml", written)
    save_yaml(typed, [*earlier, *(o for o in job.typed if o not in earlier)])


def run_of(source: str) -> Path | None:
    """The folder of the run that wrote a checkpoint, when it still lies in it."""
    folder = Path(source).parent.parent
    return folder if (folder / "manifest.json").is_file() and (folder / "config.yaml").is_file() else None


def model_name(source: str) -> str:
    """The experiment's name, or what the foreign file or model is called."""
    run = run_of(source)
    if run is not None:
        return str(yaml.safe_load((run / "config.yaml").read_text(encoding="utf8"))["name"])
    words = source.split(":")
    return words[1] if words[0] == "open_clip" and len(words) > 1 else Path(source).stem
