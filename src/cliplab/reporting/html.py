"""The report: one self-contained page, made from the files of a run folder alone."""

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2

from cliplab.reporting.plots import accuracy_curves, reliability
from cliplab.reporting.results import gallery_rows, read_history, read_json, read_samples

TEMPLATES = Path(__file__).parent / "templates"


def _picture(data: bytes | None) -> str:
    return "" if data is None else "data:image/png;base64," + base64.b64encode(data).decode()


def _gallery(samples: dict[str, list[Any]], names: list[str]) -> list[dict[str, Any]]:
    if not names or "thumbnail" not in samples:
        return []
    shelves = []
    for title, rows in gallery_rows(samples).items():
        cards = [
            {
                "picture": _picture(samples["thumbnail"][i]),
                "truth": names[samples["label"][i]],
                "hit": samples["rank"][i] == 0,
                "top": [
                    {"name": names[c], "share": p, "right": names[c] == names[samples["label"][i]]}
                    for c, p in zip(samples["top5"][i], samples["top5_probability"][i], strict=True)
                ],
            }
            for i in rows
        ]
        if cards:
            shelves.append({"title": title, "cards": cards})
    return shelves


def _confusions(samples: dict[str, list[Any]], names: list[str]) -> list[dict[str, Any]]:
    if not names or not samples:
        return []
    pairs = Counter(
        (label, top[0])
        for label, top, rank in zip(samples["label"], samples["top5"], samples["rank"], strict=True)
        if rank > 0
    )
    return [{"truth": names[a], "said": names[b], "count": n} for (a, b), n in pairs.most_common(12)]


def _classification(run_dir: Path, result: dict[str, Any]) -> dict[str, Any]:
    name = result["dataset"]
    details = read_json(run_dir / "details" / f"{name}.json") or {}
    samples = read_samples(run_dir / "samples" / f"{name}.parquet")
    names, counts = details.get("class_names", []), details.get("counts", [])
    classes = [
        {"name": n, "images": c[0], "acc1": c[1] / c[0], "acc5": c[2] / c[0], "rank": c[3] / c[0] + 1}
        for n, c in zip(names, counts, strict=True)
        if c[0]
    ]
    classes.sort(key=lambda row: (row["acc1"], -row["rank"]))
    return {
        **result,
        "classes": classes,
        "templates": details.get("templates", []),
        "gallery": _gallery(samples, names),
        "confusions": _confusions(samples, names),
        "reliability": reliability(details["calibration"]) if details.get("calibration") else "",
        "seconds": details.get("seconds", {}),
        "groups": {
            k.removeprefix("acc1_").replace("_", " "): v
            for k, v in result["metrics"].items()
            if k.startswith("acc1_") and not k.startswith("acc1_ci")
        },
    }


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into the run folder and return its path. What is missing is left out and said."""
    results = [read_json(path) for path in sorted((run_dir / "results").glob("*.json"))]
    sets = [_classification(run_dir, r) for r in results if r["task"] == "zeroshot_classification"]
    history = [line for line in read_history(run_dir) if "acc1" in line["metrics"]]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters["percent"] = lambda x, digits=1: f"{100 * x:.{digits}f} %"
    page = environment.get_template("report.html.jinja").render(
        manifest=read_json(run_dir / "manifest.json") or {},
        sets=sets,
        headline=sets[0] if sets else None,
        retrieval=[r for r in results if r["task"] == "zeroshot_retrieval"],
        curves=accuracy_curves(history) if len(history) > 1 else "",
    )
    path = run_dir / "report.html"
    path.write_text(page, encoding="utf8")
    return path
