"""metrics.csv: one line for each logged step, flushed at once. A resumed run continues the file."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from cliplab.files import whole_file


def read_logged(run_dir: Path) -> dict[str, int]:
    """The last step at which each figure was logged, from ``metrics.csv``; a line that a kill has cut does not count."""
    logged: dict[str, int] = {}
    try:
        with (run_dir / "metrics.csv").open(newline="") as file:
            for row in csv.DictReader([line for line in file if line.endswith("\n")]):
                logged |= {key: int(row["step"]) for key, value in row.items() if value not in (None, "")}
    except (OSError, ValueError):
        return {}
    return logged


class CSVLogger(Logger):
    """Writes ``<save_dir>/metrics.csv``. On resume the rows after the checkpoint's step are dropped, so that no step is
    listed twice. A new column rewrites the header."""

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self.rows: list[dict[str, Any]] = []
        self.columns = ["step"]
        if self.path.is_file():
            with self.path.open(newline="") as file:
                whole_lines = [line for line in file if line.endswith("\n")]  # a kill may have cut the last line
            self.rows = list(csv.DictReader(whole_lines))
            self.columns = list(self.rows[0]) if self.rows else ["step"]

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing: config.yaml holds the resolved config."""

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Forget the rows after ``step``, from which training continues. Forget all rows when training starts over."""
        self.rows = [row for row in self.rows if int(row["step"]) <= step] if step > 0 else []
        self._rewrite()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": int(step or 0), **metrics}
        new_columns = [key for key in row if key not in self.columns]
        self.columns += new_columns
        if self.rows and int(self.rows[-1]["step"]) == row["step"]:
            self.rows[-1] = {**self.rows[-1], **row}
            self._rewrite()
        else:
            self.rows.append(row)
            if new_columns or len(self.rows) == 1:
                self._rewrite()
            else:
                self._append(row)

    def _append(self, row: dict[str, Any]) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def _rewrite(self) -> None:
        with whole_file(self.path, newline="", sync=False) as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
