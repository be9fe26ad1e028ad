"""The files of a run folder: results, details, samples, manifest."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cliplab.evaluation.result import EvaluationResult, file_stem
from cliplab.files import whole_file
from cliplab.reporting.gallery import rows_with_pictures


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all: written beside and moved."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else None


def _thumbnail(dataset: Any, index: int) -> bytes:
    picture = dataset.picture(index)
    picture.thumbnail((96, 96))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_result(run_dir: Path, result: EvaluationResult, dataset: Any, model: str, pretrained: str) -> Path:
    """Write results/<set>.json, details/<set>.json and samples/<set>.parquet; return the first."""
    name = file_stem(result.name, result.task)
    path = run_dir / "results" / f"{name}.json"
    facts = {
        "dataset": result.name,
        "model": model,
        "pretrained": pretrained,
        "task": result.task,
        "language": "en",
        "protocol_hash": result.protocol_hash,
        "metrics": result.metrics,
    }
    write_json(path, facts)
    write_json(run_dir / "details" / f"{name}.json", {**result.details, "seconds": result.seconds})
    if result.samples:
        wanted = rows_with_pictures(result.samples)
        indices = result.samples["index"]
        pictures = [_thumbnail(dataset, indices[i]) if i in wanted else None for i in range(len(indices))]
        (run_dir / "samples").mkdir(exist_ok=True)
        table = pa.table({**result.samples, "thumbnail": pa.array(pictures, pa.binary())})
        pq.write_table(table, run_dir / "samples" / f"{name}.parquet")
    return path


def read_samples(path: Path, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """The per-image table by column; empty when there is none."""
    return pq.read_table(path, columns=list(columns) if columns else None).to_pydict() if path.is_file() else {}


def read_history(run_dir: Path) -> Sequence[dict[str, Any]]:
    path = run_dir / "zeroshot" / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
