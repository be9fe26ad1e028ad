"""The folder of a run: save the config in it, find it, and read the experiment's name from it."""

from pathlib import Path
from typing import Any

from cliplab.checkpoints.run_checkpoint import without_definitions
from cliplab.files import read_yaml
from cliplab.runs.outcome import with_further
from cliplab.settings.config import save_yaml
from cliplab.settings.interpolations import with_interpolations
from cliplab.settings.job import Job


def save_config(config: dict[str, Any], job: Job) -> None:
    """Write three files into the folder of the job. config.yaml is the resolved config. composed.yaml is the same config
    with references between keys; ``resume=`` composes from it. overrides.yaml lists what was typed; values that are typed
    beside ``resume=`` are added to it.

    Definitions of tokenizers are left out. They are long, and checkpoints hold them."""
    run_dir = job.run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    typed = run_dir / "overrides.yaml"
    earlier = read_yaml(typed) if typed.is_file() else []
    written = without_definitions(config)
    save_yaml(run_dir / "composed.yaml", with_interpolations(written, job.composed))
    save_yaml(run_dir / "config.yaml", written)
    save_yaml(typed, with_further(earlier, job.typed))


def run_of(source: str) -> Path | None:
    """The folder of the run that wrote a checkpoint; None when the checkpoint is no longer in that folder."""
    folder = Path(source).parent.parent
    return folder if (folder / "manifest.json").is_file() and (folder / "config.yaml").is_file() else None


def model_name(source: str) -> str:
    """The name of the experiment, or the name of the foreign file or model."""
    run = run_of(source)
    if run is not None:
        return str(read_yaml(run / "config.yaml")["name"])
    words = source.split(":")
    return words[1] if words[0] == "open_clip" and len(words) > 1 else Path(source).stem
