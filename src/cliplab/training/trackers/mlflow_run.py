"""Runs of MLflow."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from PIL import Image

from cliplab.text import one_line
from cliplab.training.trackers.tracker import Kept, check_reachable, plain, run_title

SQLITE = "sqlite:///"


class MlflowRun(MLFlowLogger):
    """A run of MLflow, named as the run's folder. ``tracking_uri`` is a database (``sqlite:///…``) or a server."""

    needs_package = "mlflow"
    STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}

    def __init__(self, run_dir: str, experiment_name: str, tracking_uri: str, **options: Any) -> None:
        self.kept = Kept(Path(run_dir), "mlflow")
        self.run_dir, self.uri = Path(run_dir), tracking_uri
        if tracking_uri.startswith("file:") or ("://" not in tracking_uri and tracking_uri != "databricks"):
            instead = SQLITE + tracking_uri.removeprefix("file:").rstrip("/") + ".db"
            raise ValueError(f"MLflow keeps no runs in a folder any more; take logger.mlflow.tracking_uri={instead}")
        named = {"run_name": run_title(self.run_dir), **options}
        if tracking_uri.startswith(SQLITE):
            database = Path(tracking_uri.removeprefix(SQLITE))
            database.parent.mkdir(parents=True, exist_ok=True)
            named.setdefault("artifact_location", (database.parent / "mlflow_files").resolve().as_uri())
        super().__init__(experiment_name=experiment_name, tracking_uri=tracking_uri, run_id=self.kept.id, **named)

    def begin(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        check_reachable("logger.mlflow.tracking_uri", self.uri)
        try:
            run_id = self.run_id
        except Exception as error:
            told = one_line(error) or type(error).__name__
            raise ValueError(f"logger.mlflow: {self.uri} cannot be used: {told}"[:300]) from error
        assert run_id is not None
        if (self.run_dir / "config.yaml").is_file():  # parameters cannot be changed later, and long ones are cut off
            self.attach(self.run_dir / "config.yaml")
        if self.kept.id:
            self.experiment.update_run(run_id, status="RUNNING")
            self.kept.logged = self._stored(run_id)
            return
        self.kept.keep(run_id)
        self.log_hyperparams(plain(config))
        for key, value in facts.items():
            self.experiment.set_tag(run_id, key, value)
        self.log_metrics({key: value for key, value in facts.items() if isinstance(value, int | float)}, step=0)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        fresh = self.kept.fresh(metrics, step)
        if fresh:
            super().log_metrics({mlflow_name(key): value for key, value in fresh.items()}, step)

    def _stored(self, run_id: str) -> dict[str, int]:
        """The last step of each figure in the store: a kill may have come between metrics.csv and it."""
        ours = {mlflow_name(key): key for key in self.kept.logged}
        histories = {key: self.experiment.get_metric_history(run_id, key) for key in ours}
        return {ours[key]: max(one.step for one in found) for key, found in histories.items() if found}

    def catch_up(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.kept.catch_up(rows, self.log_metrics, self.show)

    def show(self, name: str, picture: Image.Image, step: int) -> None:
        if self.kept.is_fresh(name, step):
            self.experiment.log_image(self.run_id, picture, key=name.replace("/", "_"), step=step)

    def attach(self, file: Path) -> None:
        self.experiment.log_artifact(self.run_id, str(file))

    def finalize(self, status: str = "success") -> None:
        """Lightning calls this when the steps are over; ``end`` comes after the last evaluation."""

    def end(self, status: str) -> None:
        self.experiment.set_terminated(self.run_id, self.STATUS[status])


def mlflow_name(key: str) -> str:
    """MLflow has no @ in names."""
    return key.replace("@", "_at_")
