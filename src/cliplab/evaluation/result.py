"""What every evaluator returns."""

from dataclasses import dataclass, field
from typing import Any

SUFFIXES = {"zeroshot_classification": "", "zeroshot_retrieval": "_retrieval", "linear_probe": "_linear_probe"}


def file_stem(name: str, task: str) -> str:
    """What the files of a set's result are called; one set may be evaluated in several ways."""
    return name + SUFFIXES[task]


@dataclass(frozen=True)
class EvaluationResult:
    """``metrics`` are scalars (shares in [0, 1]); ``samples`` are equal-length columns with a row per image; ``seconds``
    per phase.

    ``details`` of every task: ``protocol`` (see ``protocol_of``), ``warnings`` (sentences), ``subset`` (None, or a
    sentence when only a part of the set was evaluated). Of a classification also ``class_names``, ``templates``,
    ``counts`` (per class, see ``RankCounts``), ``calibration`` (bins), ``confusions`` (label, answer, count; the most
    frequent first), ``groups`` (images and hits of named parts) and ``per_template`` (template, acc1, acc5 of each template
    alone; empty when not asked for).
    ``samples`` of a classification: index, label, rank, top5, top5_probability; of a retrieval see ``retrieval_rows``.
    """

    name: str
    task: str
    metrics: dict[str, float]
    protocol_hash: str
    details: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, list[Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
