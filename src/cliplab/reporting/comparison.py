"""Compare several runs by their files alone, with paired tests on the images that they share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cliplab.evaluation.blocks import Block, Curve, Line, Note
from cliplab.evaluation.kind import Kind, Record
from cliplab.reporting.pages import render
from cliplab.reporting.results import read_history, read_json, read_records, write_json

NOT_COMPARED = ("paths", "ckpt", "pretrained", "run", "resume", "task", "callbacks", "logger", "optimized_metric")


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, value in node.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()}


def _setting(key: str, value: Any) -> str:
    """``lr=0.001``, and ``objective=GroupedClipLoss`` for a class."""
    *parents, last = key.split(".")
    return f"{parents[-1]}={str(value).rpartition('.')[2]}" if last == "_target_" and parents else f"{last}={value}"


def run_labels(folders: Sequence[Path]) -> list[str]:
    """A short label for each run: experiment and weights; then, until labels differ, settings that differ and the folder."""
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
        if key.split(".")[0] not in NOT_COMPARED and len({str(config.get(key)) for config in configs}) > 1
    ]
    shown = [key for key in differing if key != "data.seed"][:3]
    labels = [
        " ".join([name, *(_setting(key, config.get(key)) for key in shown)])
        for name, config in zip(names, configs, strict=True)
    ]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({folder.name})" for label, folder in zip(labels, folders, strict=True)]
    return labels


def compare_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """The comparison as plain values: the runs, and the sets of each kind with the figures of every run.

    Raises ValueError for fewer than two folders, and for a folder without results.
    """
    values, _ = _compared(folders)
    return values


def _compared(folders: Sequence[Path]) -> tuple[dict[str, Any], list[tuple[Kind, dict[str, Any]]]]:
    """The values of ``compare_runs``, and what each kind compared for each set, in the order of the page."""
    if len(folders) < 2:
        raise ValueError(f"run: a comparison needs two or more run folders, got {len(folders)}")
    for folder in folders:
        if not any((folder / "results").glob("*.json")):
            raise ValueError(f"run: {folder} has no results/*.json; name the folder of a finished run")
    labels = run_labels(folders)
    found: dict[tuple[str, str], list[tuple[str, Record]]] = {}
    for label, folder in zip(labels, folders, strict=True):
        for record in read_records(folder):
            found.setdefault((record.kind.name, record.dataset), []).append((label, record))
    shown = []
    for (_, name), runs in sorted(found.items(), key=lambda item: item[1][0][1].kind.order):
        kind = runs[0][1].kind
        shown.append((kind, kind.compare(name, runs)))
    values: dict[str, Any] = {"runs": _runs(labels, folders), "sets": [], "retrieval": [], "others": []}
    for kind, compared in shown:
        values.setdefault(kind.compared_under, []).append(compared)
    return values, shown


def _runs(labels: Sequence[str], folders: Sequence[Path]) -> list[dict[str, Any]]:
    runs = []
    for label, folder in zip(labels, folders, strict=True):
        manifest = read_json(folder / "manifest.json") or {}
        facts = {key: manifest.get(key) for key in ("command", "checkpoint", "parameters", "seed", "finished")}
        runs.append({"label": label, "folder": str(folder.resolve()), **facts})
    return runs


def _curves(name: str, kind: Kind, runs: Sequence[dict[str, Any]], folders: Sequence[Path]) -> list[Block]:
    """The headline of a set against the samples seen, with a line for each run that was trained."""
    lines = []
    for run, folder in zip(runs, folders, strict=True):
        evaluations = [x for x in read_history(folder) if x["set"] == name and kind.headline in x["metrics"]]
        if evaluations:
            ys = [100 * x["metrics"][kind.headline] for x in evaluations]
            lines.append(Line(run["label"], [x["samples_seen"] for x in evaluations], ys))
    if not kind.curve or len({x for line in lines for x in line.xs}) < 2:
        return []
    title = f"{kind.words[:1].upper()}{kind.words[1:]} against samples seen"
    return [Note("", title), Curve(lines, "samples seen", f"{kind.words}, %", (0, 100))]


def write_comparison(out: Path, folders: Sequence[Path]) -> Path:
    """Write comparison.json, comparison.md and comparison.html into ``out``. Returns the path of the page."""
    values, shown = _compared(folders)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", values)
    blocks = [kind.compare_blocks(compared) for kind, compared in shown]
    first, compared = shown[0]
    blocks[0] = [*blocks[0], *_curves(compared["dataset"], first, values["runs"], folders)]
    page = {"runs": values["runs"], "blocks": [block for set_blocks in blocks for block in set_blocks]}
    (out / "comparison.md").write_text(render("comparison.md.jinja", **page), encoding="utf8")
    (out / "comparison.html").write_text(render("comparison.html.jinja", **page), encoding="utf8")
    return out / "comparison.html"
