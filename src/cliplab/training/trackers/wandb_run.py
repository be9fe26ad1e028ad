"""Runs of Weights & Biases."""

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from cliplab.text import one_line
from cliplab.training.trackers.tracker import Kept, check_reachable, plain, run_title
from cliplab.training.trackers.wandb_file import last_steps

OFFLINE = "logger.wandb.offline=true"  # in words for people


class WandbRun(WandbLogger):
    """A run of Weights & Biases, named as the run's folder. ``offline`` writes it into the run's folder, for
    ``wandb sync``; ``options`` go to ``wandb.init``."""

    needs_package = "wandb"

    def __init__(self, run_dir: str, project: str, offline: bool = False, **options: Any) -> None:
        self.kept = Kept(Path(run_dir), "wandb")
        named = {"name": run_title(Path(run_dir)), "id": self.kept.id or secrets.token_hex(4), **options}
        super().__init__(save_dir=run_dir, project=project, offline=offline, **named)

    def begin(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        import wandb

        online = not self._offline and wandb.setup().settings.mode in (None, "online", "run", "shared")
        if online:
            check_reachable("logger.wandb", str(wandb.setup().settings.base_url), f"or {OFFLINE}")
        elif self.kept.id:
            self.kept.logged = last_steps(
                Path(str(self.save_dir)), self.kept.id, self.kept.logged, {name for name, *_ in self.kept.panels()}
            )
        try:
            experiment = self.experiment
        except Exception as error:
            told = one_line(error) or type(error).__name__
            raise ValueError(f"logger.wandb: {told}; run wandb login, or {OFFLINE}") from error
        experiment.config.update(plain(config), allow_val_change=True)  # what is typed when a run goes on may change it
        if not self.kept.id:
            self.kept.keep(str(self._id or experiment.id))
            for key, value in facts.items():
                experiment.summary[key] = value

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        fresh = self.kept.fresh(metrics, step)
        if fresh:
            super().log_metrics(fresh, step)

    def catch_up(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.kept.catch_up(rows, self.log_metrics, self.show)

    def show(self, name: str, picture: Image.Image, step: int) -> None:
        if self.kept.is_fresh(name, step):
            import wandb

            self.experiment.log({name: wandb.Image(picture), "trainer/global_step": step})

    def attach(self, file: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"{file.stem}-{self.kept.id}", type="report")
        artifact.add_file(str(file))
        self.experiment.log_artifact(artifact)

    def end(self, status: str) -> None:
        """Finish it: else the next job of a sweep would write into the same run."""
        if self._experiment is not None:
            self.experiment.finish(exit_code=0 if status == "finished" else 1)
