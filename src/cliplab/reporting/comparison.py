"""Several runs beside each other, from their files alone: paired tests on the images they share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliplab.evaluation.blocks import Block, Curve, Line, Note
from cliplab.evaluation.kind import Kind, Record
from cliplab.reporting.pages import render
from cliplab.reporting.results import read_history, read_json, read_records, write_json
from cliplab.reporting.sweep.jobs import label_of, short_names
from cliplab.reporting.sweep.typed import read_typed, typed_values, with_defaults

NOT_COMPARED = (
    *("experiment", "paths", "ckpt", "pretrained", "run", "task", "callbacks", "logger", "hydra", "optimized_metric"),
    *("note", "tags"),
)  # keys that tell nothing about a model, or that its name tells already


def run_labels(folders: Sequence[Path]) -> list[str]:
    """A short name for each run: experiment and weights, then what was typed and differs, then the folder."""
    results = [read_json(next(iter(sorted((folder / "results").glob("*.json"))))) for folder in folders]
    names = [(read_json(folder / "manifest.json") or {}).get("run_name") or folder.name for folder in folders]
    if len({result["pretrained"] for result in results}) > 1:
        names = [f"{name} {result['pretrained']}" for name, result in zip(names, results, strict=True)]
    if len(set(names)) == len(names):
        return names
    typed = with_defaults(folders, [typed_values(read_typed(folder)) for folder in folders])
    keys = dict.fromkeys(key for values in typed for key in values if key.split(".")[0] not in NOT_COMPARED)
    differing = [key for key in keys if len({values.get(key) for values in typed}) > 1]
    short = short_names(differing)
    settings = [label_of({key: values.get(key, "") for key in differing}, short) for values in typed]
    labels = [f"{name} {text}".strip() for name, text in zip(names, settings, strict=True)]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({folder.name})" for label, folder in zip(labels, folders, strict=True)]
    return labels


def compare_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """The comparison as plain values: the runs, and per kind its sets with every run's figures.

    Raises ValueError naming the folder that has no results, or when fewer than two are given.
    """
    values, _ = _compared(folders)
    return values


def _compared(folders: Sequence[Path]) -> tuple[dict[str, Any], list[tuple[Kind, dict[str, Any]]]]:
    """The plain values of ``compare_runs``, and what each kind told of each set, in the order they are shown."""
    if len(folders) < 2:
        raise ValueError(f"run: a comparison needs two run folders or more, got {len(folders)}")
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
    """The headline of a set against samples seen, one line a run that was trained."""
    lines = []
    for run, folder in zip(runs, folders, strict=True):
        of_set = [x for x in read_history(folder) if x["set"] == name and kind.headline in x["metrics"]]
        if of_set:
            ys = [100 * x["metrics"][kind.headline] for x in of_set]
            lines.append(Line(run["label"], [x["samples_seen"] for x in of_set], ys))
    if not kind.curve or len({x for line in lines for x in line.xs}) < 2:
        return []
    title = f"{kind.words[:1].upper()}{kind.words[1:]} against samples seen"
    return [Note("", title), Curve(lines, "samples seen", f"{kind.words}, %", (0, 100))]


def write_comparison(out: Path, folders: Sequence[Path]) -> Path:
    """Write comparison.json, comparison.md and comparison.html into ``out``; return the page's path."""
    values, shown = _compared(folders)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", values)
    blocks = [kind.compare_blocks(compared) for kind, compared in shown]
    first, compared = shown[0]
    blocks[0] = [*blocks[0], *_curves(compared["dataset"], first, values["runs"], folders)]
    page = {"runs": values["runs"], "blocks": [block for of_set in blocks for block in of_set]}
    (out / "comparison.md").write_text(render("comparison.md.jinja", **page), encoding="utf8")
    (out / "comparison.html").write_text(render("comparison.html.jinja", **page), encoding="utf8")
    return out / "comparison.html"
