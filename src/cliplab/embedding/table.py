"""Tables of embeddings with ids, written in parts so that a stopped job can continue."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from rich.progress import track

from cliplab.embedding.collection import Collection
from cliplab.embedding.facts import FACTS, not_ours, read_facts
from cliplab.embedding.model import EmbeddingModel
from cliplab.embedding.parts import begin_parts
from cliplab.files import whole_file
from cliplab.text import occurrences


def write_table(path: Path, ids: Sequence[str], embeds: Float[np.ndarray, "rows dim"], facts: dict[str, Any]) -> None:
    """Write ``id`` and ``embedding`` as Parquet or NumPy's .npz, by the suffix. ``facts`` go into the metadata."""
    if path.suffix == ".npz":
        with whole_file(path, "wb") as file:
            np.savez(file, id=np.asarray(ids, np.str_), embedding=embeds, facts=np.asarray(json.dumps(facts)))
    else:
        flat = pa.array(embeds.ravel(), pa.float32())
        columns = {
            "id": pa.array(ids, pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, embeds.shape[1]),
        }
        table = pa.table(columns).replace_schema_metadata({FACTS: json.dumps(facts).encode()})
        with whole_file(path, "wb") as file:
            pq.write_table(table, file)


def read_table(path: Path) -> tuple[list[str], Float[np.ndarray, "rows dim"], dict[str, Any]]:
    """Ids, unit vectors and facts. Raises ValueError for a file that ``write_table`` did not write."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return file["id"].tolist(), file["embedding"], json.loads(str(file["facts"]))
        table = pq.read_table(path, columns=["id", "embedding"])
        dim = table.schema.field("embedding").type.list_size
        vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
        return table["id"].to_pylist(), vectors, json.loads((table.schema.metadata or {})[FACTS])
    except (KeyError, OSError, ValueError, pa.ArrowException) as error:
        raise not_ours(path, error) from error


def _job(model: str, collection: Collection, rows_per_part: int, batch_size: int) -> str:
    facts = [model, collection.fingerprint, len(collection), rows_per_part, batch_size]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _embed_part(model: EmbeddingModel, collection: Collection, rows: range, path: Path) -> None:
    """Embed and write one part. A part has no rows when all of its images are broken."""
    embeds, kept, skipped = model.embed_usable(collection[rows.start : rows.stop])
    with whole_file(path, "wb", sync=False) as file:
        reasons = json.dumps([(rows[s.position], s.reason) for s in skipped])
        np.savez(file, embedding=embeds, kept=kept + rows.start, skipped=np.asarray(reasons))


def _read_parts(paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Embeddings and row numbers of the usable images, and (row number, reason) of the others."""
    embeds, kept, skipped = [], [], []
    for path in paths:
        with np.load(path, allow_pickle=False) as part:
            embeds.append(part["embedding"])
            kept.append(part["kept"])
            skipped += [(int(i), str(reason)) for i, reason in json.loads(str(part["skipped"]))]
    return np.concatenate(embeds), np.concatenate(kept), skipped


def embed_collection(
    model: EmbeddingModel, collection: Collection, out: Path, *, rows_per_part: int, facts: dict[str, Any]
) -> dict[str, Any]:
    """Embed a collection into the table ``out``. Returns its facts: rows, dimensions, skipped images, and how many rows an
    earlier, stopped job had embedded.

    Parts are in ``<out>.parts`` until the table is complete. The same job continues after the last part, and gives the same
    table. Raises ValueError when ``out`` or its parts come from another job, or when no image can be read.
    """
    fingerprint = model.fingerprint
    job = _job(fingerprint, collection, rows_per_part, model.batch_size)
    if out.exists():
        if (written := read_facts(out)).get("job") == job:
            return {**written, "already": len(collection)}
        raise ValueError(f"out: {out} exists and holds other embeddings; name another file or delete it")
    parts = out.with_name(out.name + ".parts")
    begin_parts(parts, job, "model, batch size or images; name another file")
    starts = range(0, len(collection), rows_per_part)
    paths = {parts / f"{start:010d}.npz": range(start, min(start + rows_per_part, len(collection))) for start in starts}
    missing = {path: rows for path, rows in paths.items() if not path.is_file()}
    for path, rows in track(missing.items(), "images", total=len(missing), disable=len(missing) < 2, transient=True):
        _embed_part(model, collection, rows, path)
    embeds, kept, skipped = _read_parts(list(paths))
    reasons = dict(Counter(reason for _, reason in skipped).most_common())
    if len(kept) == 0:
        shutil.rmtree(parts)
        counts = occurrences(reason for _, reason in skipped)
        raise ValueError(f"none of the {len(collection)} images can be read: {counts}")
    facts = {**facts, "fingerprint": fingerprint, "collection": collection.fingerprint, "files": collection.files}
    whole = {**facts, "job": job, "rows": len(kept), "dim": embeds.shape[1], "skipped": reasons}
    whole["skipped_ids"] = [[collection.ids[i], reason] for i, reason in skipped]
    write_table(out, [collection.ids[i] for i in kept], embeds, whole)
    shutil.rmtree(parts)
    return {**whole, "already": sum(len(rows) for path, rows in paths.items() if path not in missing)}
