"""Event files of TensorBoard."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from cliplab.training.trackers.tracker import Kept, plain


class TensorBoardRun(TensorBoardLogger):
    """Event files in ``<run_dir>/tensorboard``."""

    needs_package = "tensorboard"

    def __init__(self, run_dir: str, **options: Any) -> None:
        super().__init__(save_dir=run_dir, name=None, version="tensorboard", default_hp_metric=False, **options)
        self.kept = Kept(Path(run_dir), "tensorboard")

    def begin(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        if self.kept.id:
            self.kept.logged = {name: -1 for name, *_ in self.kept.panels()} | self._stored()
            return
        shutil.rmtree(self.log_dir, ignore_errors=True)  # of a start without a checkpoint
        self.kept.keep("tensorboard")
        self.log_hyperparams({key: str(value) for key, value in plain(config).items()})
        lines = "\n".join(f"    {key}: {value}" for key, value in {**facts, **plain(config)}.items())
        self.experiment.add_text("config", lines, 0)
        self.log_metrics({key: value for key, value in facts.items() if isinstance(value, int | float)}, step=0)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        fresh = self.kept.fresh(metrics, step)
        if fresh:
            super().log_metrics(fresh, step)
            self.experiment.flush()  # else a kill loses the last two minutes

    def _stored(self) -> dict[str, int]:
        """The last step of each figure in the event files: a kill may have come between metrics.csv and them."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(self.log_dir, size_guidance={"scalars": 1, "images": 1, "tensors": 1})
        events.Reload()
        pictures = {tag: events.Images(tag)[-1].step for tag in events.Tags()["images"]}
        return pictures | {tag: events.Scalars(tag)[-1].step for tag in events.Tags()["scalars"]}

    def catch_up(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.kept.catch_up(rows, self.log_metrics, self.show)

    def show(self, name: str, picture: Image.Image, step: int) -> None:
        if self.kept.is_fresh(name, step):
            self.experiment.add_image(name, np.asarray(picture), step, dataformats="HWC")
            self.experiment.flush()

    def attach(self, file: Path) -> None:
        """TensorBoard keeps no files; its folder lies beside them."""

    def end(self, status: str) -> None:
        self.experiment.close()
