"""Read a source once and write it as shards. After a kill, the same command goes on and writes the same files."""

import contextlib
import csv
import itertools
import json
import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from cliplab.assembly.process import quiet
from cliplab.cores import usable_cores
from cliplab.data.layout import DataError
from cliplab.data.shards import FORMATS, LeftOut, Ready, Recipe, make_ready
from cliplab.data.source import CaptionSource
from cliplab.files import whole_file
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome

CHUNK = 32  # rows that a process gets at a time
FIX = (
    "repair the data, or set the right columns: data.train.image_columns=[…] data.train.caption_columns=[…], for tars "
    "data.train.reader.caption_names=[…]"
)
DONE, UNFINISHED = "prepared.json", "unfinished"  # a file when all is written, a folder before


class Shards:
    """The shards that are written so far. A shard counts once its record is written, which happens last."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out, self.records = out, out / UNFINISHED
        self.suffix, self.write = FORMATS[settings["format"]]
        self.records.mkdir(parents=True, exist_ok=True)
        stored = self.records / "settings.json"
        if stored.is_file():
            check_same_settings(settings, json.loads(stored.read_text()), out)
        elif any(path != self.records for path in out.iterdir()):
            raise ConfigError(f"out: {out} holds other files; name a folder that is empty or new")
        else:
            with whole_file(stored) as file:
                json.dump(settings, file)
        self.facts: list[dict[str, Any]] = []
        self.digests: set[bytes] = set()
        while (record := self._record(len(self.facts))).is_file():
            facts = json.loads(record.read_text())
            known = bytes.fromhex(facts.pop("digests"))
            self.digests.update(known[i : i + 16] for i in range(0, len(known), 16))
            self.facts.append(facts)

    def _record(self, number: int) -> Path:
        return self.records / f"{number:05}.json"

    @property
    def next_row(self) -> int:
        return self.facts[-1]["next_row"] if self.facts else 0

    def add(self, rows: Sequence[Ready], left_out: Sequence[LeftOut], next_row: int) -> None:
        """Write one more shard. ``next_row`` is the row of the source that is read next."""
        number = len(self.facts)
        if rows:
            name = f"train-{number:05}.{self.suffix}"
            part = self.records / name
            self.write(part, rows)
            os.replace(part, self.out / name)
        facts = {
            "next_row": next_row,
            "rows": len(rows),
            "captions": sum(len(r.captions) for r in rows),
            "bytes": sum(len(r.data) for r in rows),
            "pixels": sum(r.width * r.height for r in rows),
            "left_out": [list(row) for row in left_out],
        }
        digests = b"".join(r.digest for r in rows if r.digest).hex()
        with whole_file(self._record(number)) as file:
            json.dump({**facts, "digests": digests}, file)
        self.facts.append(facts)

    def finish(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Write ``left_out.csv`` and ``prepared.json`` from the records, then remove the records. Returns the statistics."""
        left_out = [LeftOut(*row) for facts in self.facts for row in facts["left_out"]]
        with whole_file(self.out / "left_out.csv", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(LeftOut._fields)
            writer.writerows(left_out)
        kept = {key: sum(f[key] for f in self.facts) for key in ("rows", "captions", "bytes", "pixels")}
        statistics = {
            "rows_read": self.next_row,
            "rows": kept["rows"],
            "shards": sum(f["rows"] > 0 for f in self.facts),
            "captions": kept["captions"],
            "mean_bytes": kept["bytes"] / max(1, kept["rows"]),
            "mean_pixels_before": kept["pixels"] / max(1, kept["rows"]),
            "left_out": dict(sorted(Counter(row.reason for row in left_out).items())),
        }
        whole = {"settings": settings, "statistics": statistics}
        with whole_file(self.out / DONE) as file:
            file.write(json.dumps(whole, indent=2) + "\n")
        self.forget()
        return statistics

    def forget(self) -> None:
        """Remove the records, and the folder when nothing else is in it."""
        for path in self.records.iterdir():
            path.unlink()
        self.records.rmdir()
        with contextlib.suppress(OSError):
            self.out.rmdir()


def check_same_settings(settings: dict[str, Any], earlier: dict[str, Any], out: Path) -> None:
    """Raises ConfigError when the shards in ``out`` were begun with other settings."""
    changed = [
        f"{key} was {earlier.get(key)} and is {value}" for key, value in settings.items() if earlier.get(key) != value
    ]
    if changed:
        raise ConfigError(
            f"out: {out} was begun with other settings: {'; '.join(changed)}. Restore them, or name another folder"
        )


def counted(reasons: Mapping[str, int]) -> str:
    """``3 broken, 1 no_caption``"""
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())


def _in_order(source: CaptionSource, start: int, recipe: Recipe, workers: int) -> Iterator[Ready | LeftOut]:
    """Prepare every row of the source in other processes, and yield them in order. Only a few chunks wait at any time."""
    numbered = enumerate(source.raw_rows(start), start)
    chunks = iter(lambda: list(itertools.islice(numbered, CHUNK)), [])
    waiting: deque[Future[list[Ready | LeftOut]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        for chunk in chunks:
            waiting.append(pool.submit(make_ready, chunk, source.rows, recipe))
            if len(waiting) > 4 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def prepare(source: CaptionSource, out: Path, settings: dict[str, Any], recipe: Recipe, workers: int) -> dict[str, Any]:
    """Write those shards of ``source`` that are missing in ``out``. Returns the statistics of all shards."""
    shards, console = Shards(out, settings), Console()
    total = source.total_rows
    first, began, size = shards.next_row, time.monotonic(), settings["rows_per_shard"]
    rows: list[Ready] = []
    left_out: list[LeftOut] = []
    number = first - 1

    def write_shard() -> None:
        shards.add(rows, left_out, number + 1)
        rate = (number + 1 - first) / (time.monotonic() - began)
        kept, of = sum(f["rows"] for f in shards.facts), f" of {total:,}" if total else ""
        console.print(f"{number + 1:,}{of} rows read, {kept:,} kept, {rate:,.0f} rows/s", highlight=False)
        rows.clear()
        left_out.clear()

    for item in _in_order(source, first, recipe, workers):
        number = item.row
        if isinstance(item, Ready) and item.digest in shards.digests:
            item = LeftOut(number, item.place, "duplicate", "")
        if isinstance(item, LeftOut):
            left_out.append(item)
        else:
            rows.append(item)
            if item.digest:
                shards.digests.add(item.digest)
        if len(rows) == size:
            write_shard()
    if rows or left_out:
        write_shard()
    if not any(f["rows"] for f in shards.facts):
        lost = [LeftOut(*row) for facts in shards.facts for row in facts["left_out"]]
        shards.forget()
        raise DataError(
            f"none of {number + 1:,} rows can be used: {counted(Counter(row.reason for row in lost))}; the first is "
            f"{lost[0].place if lost else 'missing'}; {FIX}"
        )
    return shards.finish(settings)


def prepare_job(job: Job) -> Outcome:
    """Prepare ``data=…`` into ``out=``. Returns that folder."""
    config = job.config
    task = config["task"]
    recipe = Recipe(*(task[key] for key in Recipe._fields))
    out = Path(config["out"]).expanduser()
    quiet()
    node = config["data"]["train"]
    if node.get("streaming"):
        node = {**node, "samples_per_epoch": node["samples_per_epoch"] or 1}
    source = build(node, "data.train")
    if not isinstance(source, CaptionSource):
        raise ConfigError("data: task=prepare reads one source; prepare the sources of a mixture one by one")
    settings = {key: task[key] for key in ("format", "rows_per_shard", *Recipe._fields)}
    settings |= {"source": config["data"].get("path") or config["name"], "fingerprint": source.fingerprint}
    if (out / DONE).is_file():
        check_same_settings(settings, json.loads((out / DONE).read_text())["settings"], out)
        print("nothing to do: all shards are written")
        return Outcome(out)
    statistics = prepare(source, out, settings, recipe, task["workers"] or usable_cores())
    dropped = counted(statistics["left_out"]) or "none"
    print(f"{statistics['rows']:,} rows in {statistics['shards']} shards; left out: {dropped}")
    with contextlib.suppress(OSError):
        job.run_dir.rmdir()  # Hydra made it, but everything is in out
    return Outcome(out)
