"""The callbacks of a training run. They call other modules and record the results; the arithmetic is elsewhere.

Configs name callbacks by this package, whatever file defines them.
"""

from cliplab.training.callbacks.batches import WatchFirstBatch
from cliplab.training.callbacks.evaluate import Evaluate
from cliplab.training.callbacks.finite import NotFiniteError, SkipNaN, StopOnNaN, WatchWeights, watch
from cliplab.training.callbacks.learning import WatchLearning
from cliplab.training.callbacks.moved import FollowMove
from cliplab.training.callbacks.overfit import TellOverfit
from cliplab.training.callbacks.progress import ProgressBar, ProgressLines, progress_display
from cliplab.training.callbacks.pruning import Prune
from cliplab.training.callbacks.steps import GradientNorm, LogSteps, ReportData
from cliplab.training.callbacks.stopping import StopBetweenSteps

__all__ = [
    "Evaluate",
    "FollowMove",
    "GradientNorm",
    "LogSteps",
    "NotFiniteError",
    "ProgressBar",
    "ProgressLines",
    "Prune",
    "ReportData",
    "SkipNaN",
    "StopBetweenSteps",
    "StopOnNaN",
    "TellOverfit",
    "WatchFirstBatch",
    "WatchLearning",
    "WatchWeights",
    "progress_display",
    "watch",
]
