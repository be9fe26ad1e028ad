"""task=benchmark: measure a part of cliplab in turn with its counterparts; benchmark= chooses the part."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from cliplab.settings.build import build
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome


def check(job: Job) -> None:
    """Raises ConfigError when no benchmark is chosen."""
    if not job.config.get("benchmark"):
        raise ConfigError("benchmark: choose what to measure, such as benchmark=loader")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    Console().print(table)


def run(job: Job) -> Outcome:
    """Run the chosen benchmark, print its table, and write ``benchmark.json``. Returns the path of that file."""
    from cliplab.assembly.device import choose_precision
    from cliplab.assembly.process import quiet, set_seed
    from cliplab.reporting.results import write_json
    from cliplab.runs.folder import save_config
    from cliplab.runs.manifest import Manifest

    config = job.config
    quiet()
    set_seed(config["seed"])
    measure = build(config["benchmark"], "benchmark")
    trainer = config["trainer"]
    trainer["precision"] = choose_precision(trainer["precision"], trainer["accelerator"])
    save_config(config, job)
    manifest = Manifest(job.run_dir, config, job.typed)
    manifest.start()
    measured = measure(config=config)
    write_json(job.run_dir / "benchmark.json", measured._asdict())
    manifest.finish("finished")
    print_rows(measured.rows)
    print(measured.summary)
    return Outcome(job.run_dir / "benchmark.json")
