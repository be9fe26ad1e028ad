"""How a linear probe is shown."""

from cliplab.evaluation.kind import Details, Kind, Metrics


class LinearProbeDetails(Details, total=False):
    """``counts`` of each class are those of ``RankCounts``."""

    class_names: list[str]
    counts: list[list[int]]


class LinearProbe(Kind):
    name = task = group = "linear_probe"
    title, suffix = "Linear probe", "_linear_probe"
    figures = {"acc1": "top-1", "acc5": "top-5", "mean_per_class_recall": "per-class recall"}
    facts = {"C": "C", "train_images": "training images", "images": "images", "classes": "classes"}
    leaderboard = ("acc1", "acc5")

    def say(self, metrics: Metrics) -> str:
        return f"top-1 {metrics['acc1']:.2%}, top-5 {metrics['acc5']:.2%}"


KIND = LinearProbe()
