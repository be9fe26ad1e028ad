"""Experiment trackers: TensorBoard, Weights & Biases and MLflow, all told the same of a run.

A resumed run goes on in the same run of its tracker: its id lies in the run's folder. What was logged before the run was
killed, and is trained again, is not logged a second time, so that no curve doubles back.
"""

import json
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlparse

import numpy as np
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from cliplab.files import whole_file
from cliplab.text import one_line
from cliplab.training.loggers import read_logged

IDS = "trackers.json"  # in the run's folder: the ids of its runs in trackers
OFFLINE = "logger.wandb.offline=true"  # in words for people
SQLITE = "sqlite:///"
SECONDS = 5.0  # to wait for a server before a run is begun


@runtime_checkable
class Tracker(Protocol):
    """What a run tells a tracker beside its figures."""

    def begin(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Once, before training: the config, and facts of the model such as its size. Raises ValueError or OSError with a
        line for people when the tracker cannot be used."""

    def show(self, name: str, picture: Image.Image, step: int) -> None: ...

    def attach(self, file: Path) -> None:
        """Keep a file with the run."""

    def end(self, status: str) -> None:
        """``finished``, ``failed`` or ``stopped``."""


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plain values by dotted keys; lists stay as they are. Where things lie is left out."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in ("paths", "logger"):
            continue
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def check_reachable(key: str, url: str, way: str = "") -> None:
    """Raises OSError when nobody answers at the host and port of a web address."""
    parts = urlparse(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=SECONDS).close()
    except OSError as error:
        hint = f"check the address and the network{', ' + way if way else ''}"
        raise OSError(f"{key}: {url} cannot be reached ({error}); {hint}") from error


class Kept:
    """The id of a run in its tracker, and what is logged there already, both from the run's folder."""

    def __init__(self, run_dir: Path, tracker: str) -> None:
        self.file, self.tracker = run_dir / IDS, tracker
        goes_on = (run_dir / "checkpoints" / "last.ckpt").is_file()
        ids = self._ids() if goes_on else {}
        self.id: str | None = ids.get(tracker)
        self.logged = read_logged(run_dir) if goes_on and self.id else {}

    @property
    def last_evaluation(self) -> int:
        evaluated = [last for key, last in self.logged.items() if not key.startswith(("train/", "data/", "step"))]
        return max(evaluated, default=-1)

    def _ids(self) -> dict[str, str]:
        return json.loads(self.file.read_text(encoding="utf8")) if self.file.is_file() else {}

    def keep(self, run_id: str) -> None:
        self.id = run_id
        ids = {**self._ids(), self.tracker: run_id}
        with whole_file(self.file) as file:
            json.dump(ids, file, indent=1)

    def fresh(self, metrics: Mapping[str, Any], step: int | None) -> dict[str, Any]:
        """Those that are not logged yet at this step."""
        return {key: value for key, value in metrics.items() if step is None or step > self._last(key)}

    def _last(self, key: str) -> int:
        """Level lines are drawn with each evaluation, and stand in no file."""
        return self.last_evaluation if key.startswith("reference/") else self.logged.get(key, -1)

    def is_fresh(self, picture: str, step: int) -> bool:
        """Of a picture of the set that its name ends with."""
        of_set = f"/{picture.rpartition('/')[2]}/"
        return step > max((last for key, last in self.logged.items() if of_set in f"/{key}"), default=-1)


class TensorBoardRun(TensorBoardLogger):
    """Event files in ``<run_dir>/tensorboard``."""

    needs_package = "tensorboard"

    def __init__(self, run_dir: str, **options: Any) -> None:
        super().__init__(save_dir=run_dir, name=None, version="tensorboard", default_hp_metric=False, **options)
        self.kept = Kept(Path(run_dir), "tensorboard")

    def begin(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        if self.kept.id:
            self.kept.logged = self._stored()
            return
        shutil.rmtree(self.log_dir, ignore_errors=True)  # of a start without a checkpoint
        self.kept.keep("tensorboard")
        self.log_hyperparams({key: str(value) for key, value in flat(config).items()})
        lines = "\n".join(f"    {key}: {value}" for key, value in {**facts, **flat(config)}.items())
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
        return {tag: events.Scalars(tag)[-1].step for tag in events.Tags()["scalars"]}

    def show(self, name: str, picture: Image.Image, step: int) -> None:
        if self.kept.is_fresh(name, step):
            self.experiment.add_image(name, np.asarray(picture), step, dataformats="HWC")

    def attach(self, file: Path) -> None:
        """TensorBoard keeps no files; its folder lies beside them."""

    def end(self, status: str) -> None:
        self.experiment.close()


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
        try:
            experiment = self.experiment
        except Exception as error:
            told = one_line(error) or type(error).__name__
            raise ValueError(f"logger.wandb: {told}; run wandb login, or {OFFLINE}") from error
        experiment.config.update(flat(config), allow_val_change=True)  # what is typed when a run goes on may change it
        if not self.kept.id:
            self.kept.keep(str(self._id or experiment.id))
            for key, value in facts.items():
                experiment.summary[key] = value

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        fresh = self.kept.fresh(metrics, step)
        if fresh:
            super().log_metrics(fresh, step)

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
        self.log_hyperparams(flat(config))
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


def run_title(run_dir: Path) -> str:
    """``emoji/2026-11-26_02-28-09-8ee6``, and for a job of a sweep its sweep's name and number."""
    return "/".join(run_dir.parts[-2:])


def trackers_of(loggers: Sequence[Any]) -> list[Tracker]:
    return [logger for logger in loggers if isinstance(logger, Tracker)]
