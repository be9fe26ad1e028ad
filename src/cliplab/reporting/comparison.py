"""Several runs beside each other, from their files alone: paired tests on the images they share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cliplab.evaluation.metrics import wilson_interval
from cliplab.evaluation.paired import holm, paired_difference
from cliplab.evaluation.references import references_for
from cliplab.evaluation.result import file_stem
from cliplab.reporting.pages import render
from cliplab.reporting.plots import accuracy_curves
from cliplab.reporting.results import read_history, read_json, read_samples, write_json

PLACES = ("paths", "ckpt", "pretrained", "run", "resume", "task", "callbacks", "logger", "optimized_metric")
MOVED = 8  # classes shown that gained or lost most


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, value in node.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()}


def _setting(key: str, value: Any) -> str:
    """``lr=0.001``, and ``objective=GroupedClipLoss`` for a class."""
    *parents, last = key.split(".")
    return f"{parents[-1]}={str(value).rpartition('.')[2]}" if last == "_target_" and parents else f"{last}={value}"


def run_labels(folders: Sequence[Path]) -> list[str]:
    """A short name for each run: experiment and weights, then the few settings that differ, then the folder."""
    results = [read_json(next(iter(sorted((folder / "results").glob("*.json"))))) for folder in folders]
    names = [(read_json(folder / "manifest.json") or {}).get("run_name") or folder.name for folder in folders]
    if len({result["pretrained"] for result in results}) > 1:
        names = [f"{name} {result['pretrained']}" for name, result in zip(names, results, strict=True)]
    if len(set(names)) == len(names):
        return names
    files = [folder / "config.yaml" for folder in folders]
    configs = [_flat(yaml.safe_load(f.read_text(encoding="utf8"))) if f.is_file() else {} for f in files]
    differing = [
        key
        for key in dict.fromkeys(key for config in configs for key in config)
        if key.split(".")[0] not in PLACES and len({str(config.get(key)) for config in configs}) > 1
    ]
    shown = [key for key in differing if key != "data.seed"][:3]
    labels = [
        " ".join([name, *(_setting(key, config.get(key)) for key in shown)])
        for name, config in zip(names, configs, strict=True)
    ]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({folder.name})" for label, folder in zip(labels, folders, strict=True)]
    return labels


def _row(label: str, result: dict[str, Any]) -> dict[str, Any]:
    kept = ("acc1", "acc1_ci_low", "acc1_ci_high", "acc5", "mean_per_class_recall", "ece", "images", "chance")
    return {"run": label, "protocol_hash": result["protocol_hash"]} | {
        key: result["metrics"][key] for key in kept if key in result["metrics"]
    }


def _same_images(first: dict[str, list[Any]], other: dict[str, list[Any]]) -> str:
    """Empty when the per-image tables are of the same images in the same order, else why no paired test is possible."""
    if not first or not other:
        return "a per-image table is missing"
    if first["index"] != other["index"] or first["label"] != other["label"]:
        return "the images or labels differ"
    return ""


def _moved(details: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The classes whose recall the last run raised and lowered most against the first."""
    first, last = details[0], details[-1]
    if not first.get("counts") or first.get("class_names") != last.get("class_names"):
        return {}
    rows = [
        {"name": name, "before": a[1] / a[0], "after": b[1] / b[0], "images": a[0]}
        for name, a, b in zip(first["class_names"], first["counts"], last["counts"], strict=True)
        if a[0] and a[0] == b[0]
    ]
    rows.sort(key=lambda row: row["before"] - row["after"])
    gained = [row for row in rows[:MOVED] if row["after"] > row["before"]]
    lost = [row for row in rows[::-1][:MOVED] if row["after"] < row["before"]]
    return {"gained": gained, "lost": lost}


def _protocol_notes(name: str, runs: Sequence[dict[str, Any]], details: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence when the runs were not scored by the same protocol, naming the parts when they are known."""
    if len({run["protocol_hash"] for run in runs}) == 1:
        return []
    parts = [d.get("protocol") or {} for d in details]
    differing = [key for key in parts[0] if key != "all" and len({p.get(key) for p in parts}) > 1]
    return [f"{name}: the protocols differ" + (f" in {', '.join(differing)}" if differing else "")]


def _compare_set(name: str, labels: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """One classification set over the runs that have it; differences are against the first of them."""
    have = [
        (label, folder, result)
        for label, folder in zip(labels, folders, strict=True)
        if (result := read_json(folder / "results" / f"{name}.json"))
    ]
    rows = [_row(label, result) for label, _, result in have]
    tables = [read_samples(folder / "samples" / f"{name}.parquet", ("index", "label", "rank")) for _, folder, _ in have]
    details = [read_json(folder / "details" / f"{name}.json") or {} for _, folder, _ in have]
    notes, tested = _protocol_notes(name, rows, details), []
    for row, table in zip(rows[1:], tables[1:], strict=True):
        problem = _same_images(tables[0], table)
        if problem:
            notes.append(f"{name}: {row['run']} is not tested against {rows[0]['run']}, {problem}")
            continue
        first, second = ([rank == 0 for rank in t["rank"]] for t in (tables[0], table))
        row["difference"] = paired_difference(first, second)._asdict()
        tested.append(row["difference"])
    for difference, p in zip(tested, holm([d["p_value"] for d in tested]), strict=True):
        difference["p_holm"] = p
    models = dict.fromkeys(result["model"] for _, _, result in have)
    published = [r._asdict() for model in models for r in references_for(name, model)]
    return {"dataset": name, "rows": rows, "references": published, "notes": notes, "moved": _moved(details)}


def _recall_table(name: str, labels: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Recalls of a caption set with their intervals, one row a run."""
    rows = []
    for label, folder in zip(labels, folders, strict=True):
        result = read_json(folder / "results" / f"{name}_retrieval.json")
        if result:
            m = result["metrics"]
            cells = {
                key: [m[key], *wilson_interval(m[key] * n, n)]
                for key, n in (
                    ("image_retrieval_recall@1", m["captions"]),
                    ("text_retrieval_recall@1", m["images"]),
                )
            }
            rows.append({"run": label, **cells})
    return {"dataset": name, "rows": rows}


def _other_table(name: str, task: str, metric: str, labels: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """One figure of each run, where there are no images to test on."""
    results = [read_json(folder / "results" / f"{file_stem(name, task)}.json") for folder in folders]
    rows = [{"run": label, "value": r["metrics"][metric]} for label, r in zip(labels, results, strict=True) if r]
    return {"dataset": name, "task": task, "metric": metric, "rows": rows}


def compare_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """The comparison as plain values: per set, every run's row; differences, tests and intervals against the first run.

    Raises ValueError naming the folder that has no results, or when fewer than two are given.
    """
    if len(folders) < 2:
        raise ValueError(f"run: a comparison needs two run folders or more, got {len(folders)}")
    for folder in folders:
        if not any((folder / "results").glob("*.json")):
            raise ValueError(f"run: {folder} has no results/*.json; name the folder of a finished run")
    labels = run_labels(folders)
    results = [read_json(p) for f in folders for p in sorted((f / "results").glob("*.json"))]

    def names(task: str, metric: str) -> list[str]:
        return list(dict.fromkeys(r["dataset"] for r in results if r["task"] == task and metric in r["metrics"]))

    runs = []
    for label, folder in zip(labels, folders, strict=True):
        manifest = read_json(folder / "manifest.json") or {}
        facts = {key: manifest.get(key) for key in ("command", "checkpoint", "parameters", "seed", "finished")}
        runs.append({"label": label, "folder": str(folder.resolve()), **facts})
    return {
        "runs": runs,
        "sets": [_compare_set(name, labels, folders) for name in names("zeroshot_classification", "acc1")],
        "retrieval": [_recall_table(name, labels, folders) for name in names("zeroshot_retrieval", "recall@1")],
        "others": [
            _other_table(name, task, metric, labels, folders)
            for task, metric in (("linear_probe", "acc1"), ("zeroshot_classification", "mean_average_precision"))
            for name in names(task, metric)
        ],
    }


def _curves(record: dict[str, Any], folders: Sequence[Path]) -> str:
    """Top-1 of the first set against samples seen, one line a run that was trained."""
    if not record["sets"]:
        return ""
    name, lines = record["sets"][0]["dataset"], []
    for run, folder in zip(record["runs"], folders, strict=True):
        lines += [{**line, "set": run["label"]} for line in read_history(folder) if line["set"] == name]
    return (
        accuracy_curves(lines, against="samples_seen", top5=False) if len({line["step"] for line in lines}) > 1 else ""
    )


def write_comparison(out: Path, folders: Sequence[Path]) -> Path:
    """Write comparison.json, comparison.md and comparison.html into ``out``; return the page's path."""
    record = compare_runs(folders)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", record)
    (out / "comparison.md").write_text(render("comparison.md.jinja", **record), encoding="utf8")
    page = render("comparison.html.jinja", **record, curves=_curves(record, folders))
    (out / "comparison.html").write_text(page, encoding="utf8")
    return out / "comparison.html"
