"""Results made by hand and the run folder they fill."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from cliplab.evaluation.kinds import retrieval as retrieval_kind
from cliplab.evaluation.kinds import zero_shot
from cliplab.evaluation.result import EvaluationResult
from cliplab.reporting.results import write_json, write_result

NAMES = ["cat", "<script>alert(1)</script>", "dog & co", "owl", "fox", "bee"]


CONFIG = """
seed: 2
data: {train: {dataset: {styles: [openmoji]}}}
zeroshot: {toy: {dataset: {styles: [twemoji, openmoji]}}}
"""


class Pictures:
    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(np.full((200, 100, 3), 20 * index, dtype=np.uint8))


def classification(name: str = "toy") -> EvaluationResult:
    labels, ranks = [0, 1, 2, 3, 4, 5], [0, 0, 1, 5, 0, 2]
    counts = [[1, int(r < 1), int(r < 5), r, int(r < 1), int(r < 1)] for r in ranks]
    tops = [[label, *(i for i in range(6) if i != label)][:5] for label in labels]
    metrics = {
        "acc1": 0.5,
        "acc5": 5 / 6,
        "mean_per_class_recall": 0.5,
        "acc1_ci_low": 0.1876,
        "acc1_ci_high": 0.8124,
        "mean_rank": 2.3,
        "ece": 0.2,
        "chance": 1 / 6,
        "images": 6.0,
        "classes": 6.0,
        "acc1_twemoji": 0.25,
        "acc1_openmoji": 0.75,
    }
    details = {
        "class_names": NAMES,
        "templates": ["a {}", "{}"],
        "counts": counts,
        "calibration": [[0, 0, 0.0], [6, 3, 2.5]],
        "confusions": [{"label": 2, "answer": 0, "count": 1}],
        "per_template": [
            {"template": "a {}", "acc1": 0.25, "acc5": 0.5},
            {"template": "{}", "acc1": 0.375, "acc5": 0.5},
        ],
        "protocol": {"names": "aa11", "templates": "bb22", "transform": "cc33", "data": "dd44", "all": "abc123"},
        "subset": None,
        "groups": {"twemoji": [4, 1]},
        "warnings": [],
    }
    samples = {
        "index": labels,
        "label": labels,
        "rank": ranks,
        "top5": [t if r == 0 else t[1:] + t[:1] for t, r in zip(tops, ranks, strict=True)],
        "top5_probability": [[0.9 - 0.1 * i, 0.05, 0.02, 0.01, 0.0] for i in range(6)],
    }
    return EvaluationResult(name, zero_shot.KIND, metrics, "abc123", details, samples, {"text": 0.5})


def retrieval() -> EvaluationResult:
    ways = ("image_retrieval", "text_retrieval")
    metrics = {f"{way}_recall@{k}": k / 10 for way in ways for k in (1, 5, 10)}
    metrics |= {"recall@1": 0.1} | {f"{way}_median_rank": 3.0 for way in ways} | {"images": 10.0, "captions": 10.0}
    samples = {
        "index": list(range(10)),
        "captions": [[f"caption {i}", f"another {i}"] for i in range(10)],
        "text_rank": [0, *range(9)],
        "top_texts": [[f"caption {i}", f"caption {(i + 1) % 10}"] for i in range(10)],
        "top_text_scores": [[0.9 - i / 20, 0.1] for i in range(10)],
        "image_rank": [[0, 1]] * 10,
        "top_images": [[[i, (i + 1) % 10]] * 2 for i in range(10)],
        "top_image_scores": [[[0.9, 0.1]] * 2] * 10,
    }
    return EvaluationResult("val", retrieval_kind.KIND, metrics, "def456", {"warnings": []}, samples, {"search": 0.1})


def fill_run(folder: Path) -> Path:
    for result in (classification(), retrieval()):
        write_result(folder, result, Pictures(), "emoji", "last")
    history = [
        {
            "set": "toy",
            "epoch": e,
            "step": 10 * e,
            "samples_seen": 100 * e,
            "metrics": {"acc1": 0.1 * e, "acc5": 0.2 * e},
        }
        for e in range(4)
    ]
    (folder / "metrics.csv").write_text("step,train/loss,train/lr\n1,2.0,0.1\n2,1.5,0.05\n3,,\n")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "zeroshot").mkdir()
    (folder / "zeroshot" / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    manifest = {
        "run_name": "emoji",
        "task": "train",
        "status": "finished",
        "command": "python run.py seed=2",
        "seed": 2,
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:03:00+00:00",
        "python": "3.11.7",
        "versions": {"torch": "2.15.0"},
        "git": {"commit": "0123abc", "dirty": True},
        "hardware": {"cpu": "x86_64", "cores": 2, "memory_gb": 8.0, "gpus": []},
        "parameters": 1234,
        "credits": ["Drawings by somebody, https://example.org"],
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def fill_job(folder: Path, typed: list[str], value: float | None, status: str = "finished", **facts: object) -> Path:
    """A job of a sweep that reached ``value`` of val/recall@1, or did not finish."""
    final = {} if value is None else {"val/recall@1": value, "zeroshot/toy/acc1": value / 2, "cost": 10 * value}
    optimized = {} if value is None else {"optimized_metric": {"name": "val/recall@1", "value": value}}
    folder.mkdir(parents=True)
    (folder / "overrides.yaml").write_text(json.dumps(typed))
    (folder / "manifest.json").write_text(json.dumps({"status": status, "final": final} | optimized | facts))
    rows = [f"{10 * i},{i * (value or 0.1) / 3}\n" for i in range(4)]
    (folder / "metrics.csv").write_text("".join(["step,val/recall@1\n", *rows]))
    return folder


def fill_sweep(folder: Path) -> Path:
    """Three rates and two objectives, of two seeds each; one job failed, and one was pruned."""
    number = 0
    for rate, objective, value in ((r, o, 0.3 + 0.1 * i) for i, r in enumerate(RATES) for o in ("clip", "siglip")):
        for seed in (1, 2):
            typed = ["experiment=emoji", f"optimizer.lr={rate}", f"objective={objective}", f"seed={seed}"]
            fill_job(folder / str(number), typed, value + 0.01 * seed - 0.05 * (objective == "siglip"))
            number += 1
    fill_job(
        folder / "12", ["experiment=emoji", "optimizer.lr=1e-1", "seed=1"], None, "failed", error="<b>too & fast</b>"
    )
    fill_job(folder / "13", ["experiment=emoji", "optimizer.lr=1e-5", "seed=1"], None, "pruned", error="hopeless")
    return folder


RATES = ("1e-4", "1e-3", "1e-2")
