"""task=search: search a collection, or a table of embeddings, by a sentence or an image."""

import csv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from cliplab.rules import Count
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome, check_images
from cliplab.settings.model_source import KEYS, model_source

if TYPE_CHECKING:
    import numpy as np

    from cliplab.embedding.model import EmbeddingModel

TABLES = (".parquet", ".npz")  # files of task=embed
PROBES = 200  # the recall of an approximate index is measured on so many rows


class Options(TypedDict):
    """What configs/task/search.yaml sets."""

    batch_size: Count
    workers: Count
    split: str
    id_column: str | None
    top: Count


def check(job: Job) -> None:
    """Raises ConfigError without a query, pictures or a model."""
    if not job.config["query"]:
        raise ConfigError('query: task=search needs a query; query="a red car" or query=<image file>')
    if not job.config["images"]:
        raise ConfigError("images: task=search needs pictures; images=<folder, data set or table of task=embed>")
    check_images(job.config)
    model_source(_with_model(job.config))


def _with_model(config: dict[str, Any]) -> dict[str, Any]:
    """The config; where it names no model, with the one that made the table of embeddings. Raises ConfigError when that
    model is gone."""
    path = Path(str(config["images"])).expanduser()
    if any(config.get(key) for key in KEYS) or path.suffix not in TABLES:
        return config
    from cliplab.embedding.facts import maker_of

    source = maker_of(path)
    if source is None:
        return config
    if Path(source).is_absolute() and not Path(source).exists():
        raise ConfigError(
            f"images: {path} was embedded by {source}, which is gone; name that model where it is now: run=…"
        )
    return {**config, "pretrained": source}


def _pictures_of(facts: dict[str, Any], ids: Sequence[str]) -> Callable[[int], Any]:
    """A function from a row of a table to its picture. It returns None when pictures were moved or the set has changed."""
    from cliplab.embedding.collection import open_collection

    if facts["files"]:
        root = Path(str(facts["images"]))
        return lambda i: next((p for p in (root / ids[i], Path(ids[i])) if p.is_file()), None)
    try:
        collection = open_collection(facts["images"], split=facts["split"], id_column=facts["id_column"])
    except ValueError:
        return lambda i: None
    if collection.fingerprint != facts["collection"]:
        return lambda i: None
    places = {name: i for i, name in enumerate(collection.ids)}
    return lambda i: collection[places[ids[i]]]


def _collection_vectors(
    config: dict[str, Any], model: "EmbeddingModel"
) -> tuple[Sequence[str], "np.ndarray", Callable[[int], Any]]:
    """Ids, unit vectors, and a function from a row to its picture, which returns None when the picture is out of reach."""
    from cliplab.assembly.collection import given_collection, report_skipped, with_ids
    from cliplab.embedding.facts import is_table
    from cliplab.embedding.table import read_table

    path = Path(str(config["images"])).expanduser()
    if is_table(path):
        ids, vectors, facts = read_table(path)
        if facts.get("fingerprint") != model.fingerprint:
            raise ConfigError(
                f"images: {path} was embedded by another model, {facts['source']}; search with that one, or embed again"
            )
        return ids, vectors, _pictures_of(facts, ids)
    collection = given_collection(config)
    vectors, kept, skipped = model.embed_usable(collection)
    report_skipped(with_ids(skipped, collection), len(collection))
    if not len(kept):
        raise ConfigError(f"images: none of the {len(collection)} images can be read")
    return [collection.ids[i] for i in kept], vectors, lambda i: collection[kept[i]]


def run(job: Job) -> Outcome:
    """Write results.csv and index.html into ``out=`` (the run folder). Returns the page's path."""
    import numpy as np

    from cliplab.assembly.model import task_model
    from cliplab.embedding.index import ExactIndex, recall
    from cliplab.embedding.model import query_file
    from cliplab.reporting.contact_sheet import contact_sheet

    config = _with_model(job.config)
    job = replace(job, config=config)
    query, top = config["query"], config["task"]["top"]
    model = task_model(job)
    model.check_trained("image_embeds")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*texts cut.*")
        vector = model.embed_query(str(query))
    ids, vectors, picture = _collection_vectors(config, model)
    index = build(config["index"], "index")(vectors)
    positions, scores = index.search(vector, top)
    facts = [f"{len(ids):,} images, model {model.source}"]
    if model.truncated:
        facts.append(f"the query was cut at {model.tokenizer.context_length} tokens")
    hits = [(ids[i], float(s), picture(int(i))) for i, s in zip(positions[0], scores[0], strict=True)]
    if not isinstance(index, ExactIndex):
        probes = vectors[np.linspace(0, len(vectors) - 1, min(PROBES, len(vectors))).astype(int)]
        share = recall(index, ExactIndex(vectors), probes, top)
        found = f"{share:.1%} of the exact {len(hits)} nearest are found ({len(probes)} probes)"
        facts.append(f"{type(index).__name__}: {found}")
    out = job.out
    out.mkdir(parents=True, exist_ok=True)
    with (out / "results.csv").open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "score", "id"])
        writer.writerows([rank + 1, f"{score:.6f}", name] for rank, (name, score, _) in enumerate(hits))
    page = out / "index.html"
    contact_sheet(page, query=str(query), query_image=query_file(query), hits=hits, facts=facts)
    for fact in facts:
        print(fact)
    for name, score, _ in hits[:10]:
        print(f"{score:7.3f}  {name}")
    return Outcome(page)
