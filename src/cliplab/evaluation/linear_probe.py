"""A linear probe: logistic regression on frozen image embeddings (Radford et al. 2021, appendix A.3)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.evaluation.batches import EvaluationImages, LabelledSet, over_images
from cliplab.evaluation.clock import Phases
from cliplab.evaluation.intervals import wilson_interval
from cliplab.evaluation.kind import Kind, ProtocolHashes
from cliplab.evaluation.kinds.linear_probe import KIND, LinearProbeDetails
from cliplab.evaluation.metrics import RankCounts, label_ranks
from cliplab.evaluation.model import Features, ZeroShotModel
from cliplab.evaluation.protocol import protocol_of
from cliplab.evaluation.result import EvaluationResult
from cliplab.evaluation.tally import stratified_rows
from cliplab.rules import Count, Share
from cliplab.text import listed

COARSE = tuple(10.0**power for power in range(-6, 7, 2))  # the values of C that are tried first
STATES = "the probe reads the mean of the image tower's states: this objective trains no image embeddings"
FINEST = 10 ** (1 / 8)  # the ratio of neighbouring values at the end: eight steps for each factor of ten


def logistic_regression(
    features: Tensor, labels: Tensor, *, classes: int, c: float, max_iter: int = 1000, tolerance: float = 1e-5
) -> nn.Linear:
    """Minimise ``mean cross entropy + |weight|^2 / (2 c n)`` by L-BFGS, where n is the number of rows. This is
    scikit-learn's ``LogisticRegression(C=c)``; the bias is not penalised. Features ``[n, dim]``, labels int64 ``[n]``."""
    layer = nn.Linear(features.shape[1], classes, device=features.device, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    features = features.double()
    optimizer = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=max_iter,
        tolerance_grad=tolerance,
        tolerance_change=1e-10,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(layer(features), labels) + layer.weight.square().sum() / (2 * c * len(features))
        value.backward()
        return value

    with torch.inference_mode(False), torch.enable_grad():
        optimizer.step(loss)  # type: ignore[arg-type]
    return layer


def best_c(score: Callable[[float], float]) -> float:
    """The C with the highest ``score``; the smallest of equally good ones.

    Seven powers of ten are tried first. Then the interval around the best is halved, in logarithms, until a step is an
    eighth of a factor of ten. ``score`` is called about twenty times."""
    known = {c: score(c) for c in COARSE}
    step = COARSE[1] / COARSE[0]
    while step > FINEST * 1.001:
        step = step**0.5
        centre = max(sorted(known), key=lambda c: known[c])
        for c in (centre / step, centre * step):
            if COARSE[0] <= c <= COARSE[-1] * 1.001 and c not in known:
                known[c] = score(c)
    return max(sorted(known), key=lambda c: known[c])


def _different_classes(train: Sequence[str] | None, test: Sequence[str] | None) -> str:
    """What differs between the class names of the two parts."""
    parts = {"training": train or [], "test": test or []}
    missing = [
        f"{listed([name for name in other if name not in parts[part]])} only in the {beside} part"
        for part, beside, other in (("test", "training", parts["training"]), ("training", "test", parts["test"]))
        if not {*other} <= {*parts[part]}
    ]
    return (
        f"training and test part have different classes: {'; '.join(missing) or 'their order differs'}; check both, or set "
        "dataset.keep_empty_classes=true where a class folder holds no picture"
    )


class LinearProbe:
    """Fits a classifier on the frozen embeddings of ``train_images``, and scores it on ``images``, with the same labels.

    If ``c`` is None, it is chosen on a validation part: ``validation_fraction`` of the training images, with its share of
    each class. Then the classifier is fitted on all training images. A probe runs in thorough evaluations only. Raises
    ValueError when the classes differ, or when the two parts are prepared differently.
    """

    kind: Kind = KIND
    final_only = True

    def __init__(
        self,
        *,
        name: str,
        images: EvaluationImages[LabelledSet],
        train_images: EvaluationImages[LabelledSet],
        c: float | None = None,
        validation_fraction: Share = 0.2,
        max_iter: Count = 1000,
    ) -> None:
        if not 0 < validation_fraction < 1:
            raise ValueError(f"zeroshot.{name}.validation_fraction {validation_fraction} must lie between 0 and 1")
        dataset, train = images.dataset, train_images.dataset
        if train.class_names != dataset.class_names:
            raise ValueError(f"linear probe {name}: {_different_classes(train.class_names, dataset.class_names)}")
        prepared = [part.transform.fingerprint for part in (train_images, images)]
        if prepared[0] != prepared[1]:
            raise ValueError(
                f"linear probe {name}: training pictures are prepared as {prepared[0]}, test pictures as {prepared[1]}"
            )
        self.name, self.images, self.train_images, self.c = name, images, train_images, c
        self.validation_fraction, self.max_iter = validation_fraction, max_iter
        self.notes = [*dataset.notes, *(f"training part: {note}" for note in train.notes)]
        self.classes = max(int(max(train.labels)), int(max(dataset.labels))) + 1
        self.names = dataset.class_names or [str(i) for i in range(self.classes)]

    def protocol(self, reads: Sequence[str] = ()) -> ProtocolHashes:
        """See ``protocol_of``. The data include the training part, how C is chosen, and what is read but embeddings."""
        fit = [self.train_images.dataset.fingerprint, self.c, self.validation_fraction, self.max_iter, *reads]
        return protocol_of(images=self.images, part=fit)

    def _choose(self, features: Tensor, labels: Tensor) -> float:
        """Choose C by the accuracy on the validation part."""
        validation = torch.zeros(len(labels), dtype=torch.bool)
        validation[stratified_rows(labels.cpu().numpy(), max(1, round(self.validation_fraction * len(labels))))] = True
        validation = validation.to(labels.device)

        def score(c: float) -> float:
            layer = self._fit(features[~validation], labels[~validation], c)
            return float((layer(features[validation].double()).argmax(1) == labels[validation]).double().mean())

        return best_c(score)

    def _fit(self, features: Tensor, labels: Tensor, c: float) -> nn.Linear:
        return logistic_regression(features, labels, classes=self.classes, c=c, max_iter=self.max_iter)

    @torch.no_grad()
    def evaluate(self, model: ZeroShotModel, *, thorough: bool = True, most: int | None = None) -> EvaluationResult:
        """See ``Evaluator``. A probe always uses all images, and no text. It reads the embeddings, or where the objective
        trains none the features that it trains."""
        phases, device = Phases(model.device), model.device
        read = model.encoders.encode_image if model.features is None else model.features
        features, labels = self._embedded(read, self.train_images, device, phases)
        test_features, test_labels = self._embedded(read, self.images, device, phases)
        with torch.autocast(device.type, enabled=False), torch.inference_mode(False), torch.no_grad():
            features, labels = features.clone(), labels.clone()  # copies that allow gradients
            with phases("fit"):
                c = self._choose(features, labels) if self.c is None else self.c
                layer = self._fit(features, labels, c)
            logits = layer(test_features.clone().double())
        counts = RankCounts(self.classes, device)
        counts.update(label_ranks(logits, test_labels), test_labels)
        reads = [] if model.features is None else [STATES]
        return self._result(counts.counts.cpu(), c, phases.seconds(), reads)  # every rank counts the whole set

    @staticmethod
    def _embedded(
        read: Features, images: EvaluationImages[LabelledSet], device: torch.device, phases: Phases
    ) -> tuple[Tensor, Tensor]:
        features, labels = over_images(read, images, device, phases)
        return features, torch.from_numpy(np.asarray(labels)).to(device)

    def _result(self, counts: Tensor, c: float, seconds: dict[str, float], reads: Sequence[str]) -> EvaluationResult:
        images, hits, top5 = counts[:, :3].sum(0).tolist()
        shown = counts[counts[:, 0] > 0].double()
        low, high = wilson_interval(hits, images)
        metrics = {
            "acc1": hits / images,
            "acc5": top5 / images,
            "mean_per_class_recall": float((shown[:, 1] / shown[:, 0]).mean()),
            "acc1_ci_low": low,
            "acc1_ci_high": high,
            "C": c,
            "images": float(images),
            "train_images": float(len(self.train_images)),
            "classes": float(self.classes),
        }
        protocol = self.protocol(reads)
        details: LinearProbeDetails = {
            "class_names": self.names,
            "counts": counts.tolist(),
            "protocol": protocol,
            "subset": None,
            "warnings": [*self.notes, *reads],
        }
        return EvaluationResult(self.name, self.kind, metrics, protocol["all"], details, {}, seconds)
