"""The report of a run, as one self-contained page and as Markdown, from the files of the run folder alone."""

from pathlib import Path
from typing import Any

from cliplab.reporting import sections
from cliplab.reporting.pages import render
from cliplab.reporting.results import read_json, read_records


def report_values(run_dir: Path) -> dict[str, Any]:
    """The values that the templates show."""
    config = sections.read_config(run_dir)
    records = read_records(run_dir, list(config.get("zeroshot") or {}))
    groups = list(sections.by_kind(records))
    manifest = read_json(run_dir / "manifest.json") or {}
    set_warnings = [f"{r.dataset}: {w}" for r in records for w in r.details.get("warnings") or ()]
    shown = [(record, blocks) for record in records if (blocks := record.kind.blocks(record))]
    return {
        "manifest": manifest,
        "records": records,
        "headline": records[0] if records else None,
        "verdict": records[0].kind.verdict(records[0]) if records else None,
        "warnings": [*run_warnings(manifest), *set_warnings],
        "subsets": [f"{r.dataset}: {r.details['subset']}" for r in records if r.details.get("subset")],
        "averaged": any(r.pretrained.endswith("_ema") for r in records),
        "scores": [block for group in groups for block in group[0].kind.scores(group)],
        "across": [block for group in groups for block in group[0].kind.across(group, config)],
        "sets": shown,
        "curves": sections.progress(run_dir, records),
        "training": sections.training_curves(run_dir),
        "costs": sections.costs(records),
    }


def run_warnings(manifest: dict[str, Any]) -> list[str]:
    """Sentences about what went wrong in the run."""
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
    found += [manifest[key] for key in ("first_batch", "not_learned") if manifest.get(key)]
    return found


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` and ``report.md`` into the run folder. Returns the path of the page. The report leaves out what
    is missing, and says so."""
    values = report_values(run_dir)
    (run_dir / "report.md").write_text(render("report.md.jinja", **values), encoding="utf8")
    path = run_dir / "report.html"
    path.write_text(render("report.html.jinja", **values), encoding="utf8")
    return path
