"""metrics.csv: one line per logged step, flushed at once, continued on resume."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from cliplab.files import whole_file


class CSVLogger(Logger):
    """Writes ``<save_dir>/metrics.csv``. On resume the rows beyond the checkpoint's step are dropped, so that no step
    stands there twice; a new column rewrites the header."""

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self.rows: list[dict[str, Any]] = []
        self.columns = ["step"]
        if self.path.is_file():
            with self.path.open(newline="") as file:
                whole = [line for line in file if line.endswith("\n")]  # a kill may have cut the last
            self.rows = list(csv.DictReader(whole))
            self.columns = list(self.rows[0]) if self.rows else ["step"]

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The resolved config already lies in config.yaml."""

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Forget rows after ``step``, from where training goes on; all of them when it starts over."""
        self.rows = [row for row in self.rows if int(row["step"]) <= step] if step > 0 else []
        self._rewrite()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": int(step or 0), **metrics}
        fresh = [key for key in row if key not in self.columns]
        self.columns += fresh
        if self.rows and int(self.rows[-1]["step"]) == row["step"]:
            self.rows[-1] = {**self.rows[-1], **row}
            self._rewrite()
        else:
            self.rows.append(row)
            self._rewrite() if fresh or len(self.rows) == 1 else self._append(row)

    def _append(self, row: dict[str, Any]) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def _rewrite(self) -> None:
        with whole_file(self.path, newline="", sync=False) as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
