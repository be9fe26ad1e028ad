"""What stands in a report, as plain values, read from the files of a run folder alone. What is missing is left out."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cliplab.evaluation.metrics import wilson_interval
from cliplab.evaluation.references import expected_under_shift, references_for
from cliplab.evaluation.result import file_stem
from cliplab.reporting.gallery import confused_pairs, gallery_rows, mistaken_for, retrieval_shelves
from cliplab.reporting.pages import picture
from cliplab.reporting.plots import line_plot, reliability
from cliplab.reporting.results import read_json, read_samples

TRAINING = "train/"  # what logged names of training figures begin with
FIRST_CURVES = ("loss", "lr")  # the others follow in the order of metrics.csv
CURVE_TITLES = {"lr": "learning rate"}  # where a name with spaces for underscores does not read well


def read_config(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf8")) if path.is_file() else {}


def read_results(run_dir: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Every result with its details, in the order of the config's sets."""
    order = list(config.get("zeroshot") or {})
    results = []
    for path in sorted((run_dir / "results").glob("*.json")):
        result = read_json(path)
        details = read_json(run_dir / "details" / path.name) or {}
        results.append({**result, "details": details, "stem": file_stem(result["dataset"], result["task"])})
    return sorted(results, key=lambda r: order.index(r["dataset"]) if r["dataset"] in order else len(order))


def classification(run_dir: Path, result: dict[str, Any]) -> dict[str, Any]:
    """One classification set: its classes, galleries, confusions, prompts and calibration."""
    details = result["details"]
    samples = read_samples(run_dir / "samples" / f"{result['stem']}.parquet")
    names = details.get("class_names") or []
    shown = bool(names and samples and "thumbnail" in samples)
    return {
        **result,
        "references": [r._asdict() for r in references_for(result["dataset"], result["model"])],
        "classes": _classes(names, details.get("counts") or [], mistaken_for(samples) if samples else {}),
        "gallery": _gallery(samples, names) if shown else [],
        "confusions": _pairs(samples, names) if shown else [],
        "prompts": _prompts(details.get("per_template") or [], result["metrics"].get("acc1")),
        "reliability": reliability(details["calibration"]) if details.get("calibration") else "",
        "groups": _groups(details.get("groups") or {}, result["metrics"]),
    }


def _classes(names: list[str], counts: list[list[int]], mistaken: dict[int, tuple[int, int]]) -> list[dict[str, Any]]:
    """A row for each class that has images, the worst first."""
    rows = [
        {"name": name, "images": c[0], "acc1": c[1] / c[0], "acc5": c[2] / c[0], "rank": c[3] / c[0] + 1}
        | ({"mistaken": names[mistaken[i][0]], "times": mistaken[i][1]} if i in mistaken else {})
        for i, (name, c) in enumerate(zip(names, counts, strict=True))
        if c[0]
    ]
    return sorted(rows, key=lambda row: (row["acc1"], -row["rank"]))


def _groups(groups: dict[str, Sequence[int]], metrics: dict[str, float]) -> list[dict[str, Any]]:
    """The named parts of a set: name, acc1, and with their counts an interval."""
    rows = []
    for key, value in metrics.items():
        name = key.removeprefix("acc1_")
        if key.startswith("acc1_") and not name.startswith(("ci_", "ties_")):
            row: dict[str, Any] = {"key": name, "name": name.replace("_", " "), "acc1": value}
            if name in groups:
                images, hits = groups[name]
                row |= {"images": images, "interval": (value, *wilson_interval(hits, images))}
            rows.append(row)
    return rows


def _gallery(samples: dict[str, list[Any]], names: list[str]) -> list[dict[str, Any]]:
    def card(i: int) -> dict[str, Any]:
        label, rank = samples["label"][i], samples["rank"][i]
        tops = zip(samples["top5"][i], samples["top5_probability"][i], strict=True)
        return {
            "picture": picture(samples["thumbnail"][i]),
            "truth": names[label],
            "hit": rank == 0,
            "top": [
                {
                    "name": names[c],
                    "share": p,
                    "figure": f"{100 * p:.0f} %" if p >= 0.005 else "< 1 %",
                    "right": names[c] == names[label],
                }
                for c, p in tops
            ],
            "note": f"the right name comes at place {rank + 1}" if rank >= 5 else "",
        }

    shelves = gallery_rows(samples).items()
    return [{"title": title, "cards": [card(i) for i in rows]} for title, rows in shelves if rows]


def _pairs(samples: dict[str, list[Any]], names: list[str]) -> list[dict[str, Any]]:
    return [
        {"truth": names[p["label"]], "answer": names[p["answer"]], "count": p["count"]}
        | {"left": picture(samples["thumbnail"][p["row"]])}
        | {"right": "" if p["other"] is None else picture(samples["thumbnail"][p["other"]])}
        for p in confused_pairs(samples)
    ]


def _prompts(alone: list[dict[str, Any]], ensemble: float | None) -> dict[str, Any]:
    """Every template alone, the best first, and what the ensemble gains over the best and over their mean."""
    if not alone or ensemble is None:
        return {}
    rows = sorted(alone, key=lambda row: -row["acc1"])
    mean = sum(row["acc1"] for row in rows) / len(rows)
    return {
        "rows": rows,
        "ensemble": ensemble,
        "over_best": ensemble - rows[0]["acc1"],
        "over_mean": ensemble - mean,
    }


def robustness(sets: Sequence[dict[str, Any]], config: dict[str, Any]) -> list[dict[str, Any]]:
    """Tables of a set against its shifted relatives: ImageNet against its variants, an art style that was trained on
    against one that was not."""
    tables = []
    base = next((s for s in sets if s["dataset"] == "imagenet"), None)
    shifted = [s for s in sets if s["dataset"].startswith("imagenet_") or s["dataset"] == "objectnet"]
    if base and shifted:
        rows = [_shift(s["dataset"], s["metrics"], base["metrics"]["acc1"]) for s in shifted]
        tables.append({"base": "imagenet", "acc1": base["metrics"]["acc1"], "rows": rows})
    train = ((config.get("data") or {}).get("train") or {}).get("dataset") or {}
    for s in sets:
        node = ((config.get("zeroshot") or {}).get(s["dataset"]) or {}).get("dataset") or {}
        groups = {g["key"]: g for g in s["groups"] if g["key"] in (node.get("styles") or [])}
        seen = [style for style in train.get("styles") or [] if style in groups]
        if len(groups) > 1 and seen:
            first = groups[seen[0]]["acc1"]
            rows = [
                {"name": style, "acc1": g["acc1"], "interval": g.get("interval"), "drop": g["acc1"] - first}
                | {"seen": style in seen}
                for style, g in groups.items()
                if style != seen[0]
            ]
            tables.append({"base": f"{s['dataset']}, {seen[0]}", "acc1": first, "rows": rows, "styles": True})
    return tables


def _shift(name: str, metrics: dict[str, float], base: float) -> dict[str, Any]:
    """Effective robustness: what is above the accuracy expected of published CLIP models this good on ImageNet."""
    expected = expected_under_shift(name, base)
    return {
        "name": name,
        "acc1": metrics["acc1"],
        "interval": (metrics["acc1"], metrics["acc1_ci_low"], metrics["acc1_ci_high"]),
        "drop": metrics["acc1"] - base,
        "expected": expected,
        "effective": None if expected is None else metrics["acc1"] - expected,
    }


def retrieval(run_dir: Path, result: dict[str, Any]) -> dict[str, Any]:
    """One caption set: hits and misses from image to text, and what their first caption finds."""
    samples = read_samples(run_dir / "samples" / f"{result['stem']}.parquet")
    if not {"thumbnail", "top_texts"} <= set(samples):
        return {**result, "shelves": []}
    shelves = []
    for title, rows in retrieval_shelves(samples).items():
        if rows:
            shelves.append({"title": title, "cards": [_retrieval_card(samples, i) for i in rows]})
    return {**result, "shelves": shelves}


def _retrieval_card(samples: dict[str, list[Any]], i: int) -> dict[str, Any]:
    own, rank = samples["captions"][i], samples["text_rank"][i]
    scores = zip(samples["top_texts"][i], samples["top_text_scores"][i], strict=True)
    tops = dict(reversed(list(scores)))  # a caption of several images once, with its best score
    found = [
        {"picture": picture(samples["thumbnail"][j]), "right": bool(set(own[:1]) & set(samples["captions"][j]))}
        for j in (samples["top_images"][i] or [[]])[0]
    ]
    return {
        "picture": picture(samples["thumbnail"][i]),
        "truth": own[0] if own else "",
        "hit": rank == 0,
        "top": [
            {"name": t, "share": max(0.0, s), "figure": f"{s:.2f}", "right": t in own}
            for t, s in reversed(tops.items())
        ],
        "note": f"its caption comes at place {rank + 1}" if rank >= 5 else "",
        "found": [f for f in found if f["picture"]],
    }


def other(result: dict[str, Any]) -> dict[str, Any]:
    """A linear probe, or a set with several labels an image and then each class's average precision, the lowest first."""
    pairs = zip(
        result["details"].get("class_names") or [], result["details"].get("average_precision") or [], strict=False
    )
    by_class = sorted(((name, value) for name, value in pairs if value is not None), key=lambda pair: pair[1])
    return {**result, "by_class": by_class}


def costs(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds by phase of each evaluation, and milliseconds per image."""
    rows = []
    for r in results:
        phases = r["details"].get("seconds") or {}
        if phases:
            total, images = sum(phases.values()), r["metrics"].get("images")
            rows.append(
                {"name": r["stem"], "phases": phases, "total": total}
                | ({"per_image": 1000 * total / images} if images else {})
            )
    return rows


def training_curves(run_dir: Path) -> list[str]:
    """A small plot for each figure that was logged while training."""
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    logged = [key.removeprefix(TRAINING) for key in (rows[0] if rows else {}) if key.startswith(TRAINING)]
    plots = []
    for name in dict.fromkeys([*FIRST_CURVES, *logged]):
        points = [(int(row["step"]), float(row[TRAINING + name])) for row in rows if row.get(TRAINING + name)]
        if len(points) > 1:
            steps, values = zip(*points, strict=True)
            plots.append(line_plot(CURVE_TITLES.get(name, name.replace("_", " ")), steps, values))
    return plots
