"""Read and write the files of a run folder: results, details, samples, history."""

import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cliplab.evaluation.kind import Record, kind_of
from cliplab.evaluation.result import EvaluationResult
from cliplab.files import whole_file


class Pictures(Protocol):
    def picture(self, index: int) -> Image.Image: ...


def write_json(path: Path, value: Any) -> None:
    """Write the file as a whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else None


def _thumbnail(dataset: Pictures, index: int) -> bytes:
    picture = dataset.picture(index)
    picture.thumbnail((96, 96))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_result(
    run_dir: Path,
    result: EvaluationResult,
    dataset: Pictures,
    model: str,
    pretrained: str,
    model_fingerprint: str | None = None,
) -> Path:
    """Write results/<set>.json, details/<set>.json and samples/<set>.parquet. Returns the path of the first.

    ``model_fingerprint`` distinguishes models that have the same name and different settings.
    """
    path = run_dir / "results" / f"{result.stem}.json"
    facts = {
        "dataset": result.name,
        "model": model,
        "pretrained": pretrained,
        "task": result.kind.task,
        "language": "en",
        "protocol_hash": result.protocol_hash,
        "metrics": result.metrics,
    }
    if model_fingerprint:
        facts["model_fingerprint"] = model_fingerprint
    if result.details.get("subset"):
        facts["subset"] = result.details["subset"]
    write_json(path, facts)
    details = {**result.details, "seconds": result.seconds, "kind": result.kind.name}
    write_json(run_dir / "details" / f"{result.stem}.json", details)
    if result.samples:
        with_picture = result.kind.pictured(result.samples)
        indices = result.samples["index"]
        pictures = [_thumbnail(dataset, indices[i]) if i in with_picture else None for i in range(len(indices))]
        (run_dir / "samples").mkdir(exist_ok=True)
        table = pa.table({**result.samples, "thumbnail": pa.array(pictures, pa.binary())})
        pq.write_table(table, run_dir / "samples" / f"{result.stem}.parquet")
    return path


def read_samples(path: Path, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """The per-image table, by column; empty when there is none."""
    return pq.read_table(path, columns=list(columns) if columns else None).to_pydict() if path.is_file() else {}


def read_record(path: Path) -> Record:
    """Read one result of a run. ``path`` is its file in results/."""
    result = read_json(path)
    details = read_json(path.parents[1] / "details" / path.name) or {}
    samples = functools.cache(functools.partial(read_samples, path.parents[1] / "samples" / f"{path.stem}.parquet"))
    return Record(
        kind=kind_of(result["task"], result["metrics"], details.get("kind")),
        stem=path.stem,
        dataset=result["dataset"],
        model=result["model"],
        pretrained=result["pretrained"],
        metrics=result["metrics"],
        protocol_hash=result["protocol_hash"],
        details=details,
        samples=samples,
    )


def read_records(run_dir: Path, first: Sequence[str] = ()) -> list[Record]:
    """All results of a run, by kind. Within a kind, the sets that are named in ``first`` come before others."""

    def place(record: Record) -> tuple[int, str, int]:
        position = first.index(record.dataset) if record.dataset in first else len(first)
        return record.kind.order, record.kind.name, position

    return sorted((read_record(path) for path in sorted((run_dir / "results").glob("*.json"))), key=place)


def read_history(run_dir: Path) -> Sequence[Mapping[str, Any]]:
    """The lines of zeroshot/history.jsonl: one for each set and evaluation. A last line that is cut short is left out."""
    path = run_dir / "zeroshot" / "history.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
