"""The report: one self-contained page and its Markdown, made from the files of a run folder alone."""

from pathlib import Path
from typing import Any

from cliplab.reporting import sections
from cliplab.reporting.pages import render
from cliplab.reporting.plots import accuracy_curves
from cliplab.reporting.results import read_history, read_json

CLASSIFICATION, RETRIEVAL = "zeroshot_classification", "zeroshot_retrieval"


def report_values(run_dir: Path) -> dict[str, Any]:
    """All that the templates show."""
    config = sections.read_config(run_dir)
    results = sections.read_results(run_dir, config)
    ranked = [r for r in results if r["task"] == CLASSIFICATION and "acc1" in r["metrics"]]
    sets = [sections.classification(run_dir, r) for r in ranked]
    history = [
        x for x in read_history(run_dir) if x.get("task", CLASSIFICATION) == CLASSIFICATION and "acc5" in x["metrics"]
    ]
    published = _published(sets)
    lines = [(f"{r['model']}, {r['trained_on']}", r["acc1"]) for r in published]
    lines += [("chance", s["metrics"]["chance"]) for s in sets[:1]]
    curves = []
    if len({line["step"] for line in history}) > 1:
        curves = [accuracy_curves(history, against=x, references=lines) for x in ("epoch", "samples_seen")]
    manifest = read_json(run_dir / "manifest.json") or {}
    told = [f"{r['dataset']}: {w}" for r in results for w in r["details"].get("warnings") or ()]
    return {
        "manifest": manifest,
        "sets": sets,
        "headline": sets[0] if sets else None,
        "published": published,
        "retrieval": [sections.retrieval(run_dir, r) for r in results if r["task"] == RETRIEVAL],
        "others": [sections.other(r) for r in results if r not in ranked and r["task"] != RETRIEVAL],
        "warnings": [*run_warnings(manifest), *told],
        "subsets": [f"{r['dataset']}: {r['details']['subset']}" for r in results if r["details"].get("subset")],
        "robustness": sections.robustness(sets, config),
        "curves": curves,
        "training": sections.training_curves(run_dir),
        "costs": sections.costs(results),
    }


def run_warnings(manifest: dict[str, Any]) -> list[str]:
    """Sentences about what went wrong in the run itself."""
    found = []
    if manifest.get("status") == "failed" and manifest.get("error"):
        at = f" at step {manifest['step']}" if manifest.get("step") is not None else ""
        found.append(f"This run failed{at}: {manifest['error']}")
    if manifest.get("skipped_steps"):
        first = ", ".join(map(str, manifest["first_skipped_steps"]))
        found.append(
            f"Training steps left out, since their loss or gradient was NaN or infinite: {manifest['skipped_steps']:,}; "
            f"the first: {first}."
        )
    return found


def _published(sets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures the first set is held against: the paper's own first, then the best, none within six points of another
    so that they can be told apart."""
    chosen: list[dict[str, Any]] = []
    rows = sets[0]["references"] if sets else []
    for row in sorted(rows, key=lambda r: (not r["source"].startswith("Radford"), -r["acc1"])):
        if all(abs(row["acc1"] - other["acc1"]) > 0.06 for other in chosen):
            chosen.append(row)
    return chosen[:3]


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` and ``report.md`` into the run folder and return the page's path. What is missing is left
    out and said."""
    values = report_values(run_dir)
    (run_dir / "report.md").write_text(render("report.md.jinja", **values), encoding="utf8")
    path = run_dir / "report.html"
    path.write_text(render("report.html.jinja", **values), encoding="utf8")
    return path
