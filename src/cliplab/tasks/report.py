"""task=report: rebuild the report of a run from its files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliplab.reporting.html import write_report
from cliplab.tasks.config import ConfigError


def run(config: dict[str, Any], cfg: Any, overrides: Sequence[str]) -> None:
    """Write ``<run>/report.html`` and print its path."""
    if not config["run"]:
        raise ConfigError("run: task=report needs a run folder; run=logs/train/<experiment>/<run>")
    if not (Path(config["run"]) / "manifest.json").is_file():
        raise ConfigError(f"run: {config['run']} is no run folder, it has no manifest.json")
    print(write_report(Path(config["run"])))
