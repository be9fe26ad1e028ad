"""Experiment trackers: TensorBoard, Weights & Biases and MLflow, all told the same of a run.

A resumed run goes on in the same run of its tracker: its id lies in the run's folder. What was logged before the run was
killed, and is trained again, is not logged a second time, so that no curve doubles back; what the kill kept from the
tracker is logged from metrics.csv. Configs name trackers by this package, whatever file defines them.
"""

from cliplab.training.trackers.mlflow_run import MlflowRun
from cliplab.training.trackers.tensorboard_run import TensorBoardRun
from cliplab.training.trackers.tracker import Kept, Tracker, check_reachable, plain, run_title, trackers_of
from cliplab.training.trackers.wandb_run import WandbRun

__all__ = [
    "Kept",
    "MlflowRun",
    "TensorBoardRun",
    "Tracker",
    "WandbRun",
    "check_reachable",
    "plain",
    "run_title",
    "trackers_of",
]
