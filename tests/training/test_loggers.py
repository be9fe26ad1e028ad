"""metrics.csv: flushed at once, one row per step, continued on resume."""

import csv
from pathlib import Path

from cliplab.training.loggers import CSVLogger


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_row_is_on_disk_after_each_call_and_columns_may_grow(tmp_path: Path) -> None:
    logger = CSVLogger(str(tmp_path))
    logger.log_metrics({"loss": 2.0}, step=1)
    assert rows(tmp_path) == [{"step": "1", "loss": "2.0"}]
    logger.log_metrics({"loss": 1.0, "acc": 0.5}, step=2)
    assert rows(tmp_path) == [{"step": "1", "loss": "2.0", "acc": ""}, {"step": "2", "loss": "1.0", "acc": "0.5"}]


def test_values_of_one_step_share_a_row(tmp_path: Path) -> None:
    logger = CSVLogger(str(tmp_path))
    logger.log_metrics({"loss": 2.0}, step=1)
    logger.log_metrics({"acc": 0.5}, step=1)
    assert rows(tmp_path) == [{"step": "1", "loss": "2.0", "acc": "0.5"}]


def test_resume_forgets_rows_after_the_checkpoint_and_repeats_none(tmp_path: Path) -> None:
    first = CSVLogger(str(tmp_path))
    for step in range(5):
        first.log_metrics({"loss": float(step)}, step=step)
    second = CSVLogger(str(tmp_path))
    second.rewind(2)
    for step in (3, 4):
        second.log_metrics({"loss": float(step)}, step=step)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2", "3", "4"]
    assert [row["loss"] for row in rows(tmp_path)] == ["0.0", "1.0", "2.0", "3.0", "4.0"]


def test_starting_over_forgets_everything(tmp_path: Path) -> None:
    CSVLogger(str(tmp_path)).log_metrics({"loss": 1.0}, step=0)
    again = CSVLogger(str(tmp_path))
    again.rewind(0)
    assert rows(tmp_path) == []
