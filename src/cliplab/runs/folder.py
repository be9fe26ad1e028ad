"""A run's folder: the config it was made from, and the experiment's name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cliplab.checkpoints.own import without_definitions
from cliplab.settings.config import save_yaml


def save_config(config: dict[str, Any], run_dir: Path, overrides: Sequence[str]) -> None:
    """Write config.yaml and overrides.yaml; values typed beside ``resume=`` are added, since they are the truth from now on.

    Definitions of tokenizers are left out: they are long and travel in checkpoints only."""
    run_dir.mkdir(parents=True, exist_ok=True)
    typed = run_dir / "overrides.yaml"
    earlier = yaml.safe_load(typed.read_text(encoding="utf8")) if typed.is_file() else []
    save_yaml(run_dir / "config.yaml", without_definitions(config))
    save_yaml(typed, [*earlier, *(o for o in overrides if o not in earlier)])


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
