"""task=benchmark: measure one thing against its plain counterpart, in alternation; benchmark= says which."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cliplab.benchmarks.measured import Measured
from cliplab.reporting.results import write_json
from cliplab.runs.manifest import Manifest
from cliplab.settings.config import ConfigError, build
from cliplab.settings.job import Job
from cliplab.tasks.train import quiet, save_config, set_seed


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    Console().print(table)


def run(job: Job) -> None:
    """Call the chosen benchmark with the whole config, print its table, write ``benchmark.json`` and print its path."""
    config, overrides = job.config, job.typed
    if not config.get("benchmark"):
        raise ConfigError("benchmark: choose what to measure, such as benchmark=loader")
    run_dir = Path(config["paths"]["run"])
    quiet()
    set_seed(config["seed"])
    measure = build(config["benchmark"], "benchmark")
    save_config(config, run_dir, overrides)
    manifest = Manifest(run_dir, config, overrides)
    manifest.start()
    measured: Measured = measure(config=config)
    write_json(run_dir / "benchmark.json", measured._asdict())
    manifest.finish("finished")
    print_rows(measured.rows)
    print(measured.summary)
    print(run_dir / "benchmark.json")
