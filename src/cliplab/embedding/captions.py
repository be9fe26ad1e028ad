"""Captions for images, and the table of them, written in parts so that a stopped job can continue."""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.progress import track
from torch import Tensor

from cliplab.embedding.parts import begin_parts
from cliplab.evaluation.kinds.captioning import no_captions
from cliplab.files import whole_file
from cliplab.objectives.writing import Greedy, Method, write, writer_of
from cliplab.text import occurrences

if TYPE_CHECKING:
    from cliplab.embedding.collection import Collection
    from cliplab.embedding.model import EmbeddingModel


class Caption(NamedTuple):
    """A caption that was written for the image at ``position`` of the input, and its log-likelihood."""

    position: int
    text: str
    log_likelihood: float


def captioner(
    model: "EmbeddingModel", method: Method | None = None, most_tokens: int | None = None, first: int = 0
) -> Callable[[Tensor, list[int]], list[Caption]]:
    """What writes captions for a batch of pixels, whose images have these positions, counted from ``first``. Raises
    ValueError for a model whose objective writes no captions."""
    writer = writer_of(model.objective)
    if writer is None:
        objective = None if model.objective is None else type(model.objective).__name__
        raise ValueError(f"{model.source}: {no_captions(objective)}")
    way = Greedy() if method is None else method

    def work(pixels: Tensor, places: list[int]) -> list[Caption]:
        positions = [first + place for place in places]
        written = write(writer, model.model, model.tokenizer, pixels, way, positions, most_tokens)
        return [Caption(position, *one) for position, one in zip(positions, written, strict=True)]

    return work


def caption_collection(
    model: "EmbeddingModel",
    collection: "Collection",
    out: Path,
    *,
    method: Method,
    most_tokens: int | None,
    rows_per_part: int,
) -> list[tuple[str, str]]:
    """Write ``captions.csv`` (id, caption, log-likelihood) into the folder ``out``. Returns the ids of images that were left
    out, with the reason.

    Parts are in ``out/parts`` until the table is complete. The same job goes on after the last part, and gives the same
    table. Raises ValueError when the parts come from another job, or when no image can be read.
    """
    facts = [model.fingerprint, collection.fingerprint, len(collection), rows_per_part, repr(method), most_tokens]
    facts += [model.batch_size, [float(p.detach().double().sum()) for p in model.objective.parameters()]]  # type: ignore[union-attr]
    job, parts = hashlib.sha256(json.dumps(facts).encode()).hexdigest(), out / "parts"
    begin_parts(parts, job, "model, method or images; name another folder")
    starts = range(0, len(collection), rows_per_part)
    paths = {start: parts / f"{start:010d}.json" for start in starts}
    missing = [start for start, path in paths.items() if not path.is_file()]
    for start in track(missing, "images", disable=len(missing) < 2, transient=True):
        work = captioner(model, method, most_tokens, first=start)
        found, _, unusable = model.for_usable(collection[start : start + rows_per_part], work)
        with whole_file(paths[start], "w", sync=False) as file:
            json.dump([found, [(start + one.position, one.reason) for one in unusable]], file)
    read = [json.loads(path.read_text(encoding="utf8")) for path in paths.values()]
    skipped = [(collection.ids[position], reason) for _, of_part in read for position, reason in of_part]
    if not any(found for found, _ in read):
        shutil.rmtree(parts)
        reasons = occurrences(reason for _, reason in skipped)
        raise ValueError(f"none of the {len(collection)} images can be read: {reasons}")
    with whole_file(out / "captions.csv", "w") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "caption", "log_likelihood"])
        writer.writerows([collection.ids[p], text, f"{x:.4f}"] for found, _ in read for p, text, x in found)
    shutil.rmtree(parts)
    return skipped
