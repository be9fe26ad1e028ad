"""The index of the runs below a folder, so that thousands of manifests need not be read again."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from cliplab.files import whole_file
from cliplab.runs.outcome import MANIFEST

INDEX, VERSION = ".runs.json", 2
INDEXED = (
    *("run_name", "task", "status", "seed", "started", "optimized_metric", "overrides", "tags", "note", "error"),
    *("finished", "pid", "host", "process_started"),
)  # of a manifest, beside the figures


def read_facts(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            facts = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


class Index:
    """What was read of each manifest, kept in a file, and read again only where a manifest is another one by its time and
    size: thousands of runs are listed in a moment. Names of figures, which most runs share, stand in it once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = read_facts(str(path))
        whole = kept.get("version") == VERSION
        self.known: dict[str, list[Any]] = kept["runs"] if whole else {}
        self.names: list[list[str]] = kept["names"] if whole else []
        self.places = {tuple(names): place for place, names in enumerate(self.names)}
        self.fresh: dict[str, list[Any]] = {}

    def facts(self, folder: str, at: os.stat_result) -> dict[str, Any]:
        """The facts of the run in a folder whose manifest has this state."""
        stamp = f"{at.st_mtime_ns} {at.st_size}"
        entry = self.known.get(folder)
        if not entry or entry[0] != stamp:
            entry = [stamp, *self._read(f"{folder}/{MANIFEST}")]
        self.fresh[folder] = entry
        _, facts, place, values = entry
        return {**facts, "final": dict(zip(self.names[place], values, strict=True))}

    def _read(self, manifest: str) -> list[Any]:
        facts = read_facts(manifest)
        final = facts.get("final")
        figures = {k: v for k, v in final.items() if isinstance(v, int | float)} if isinstance(final, dict) else {}
        names = tuple(figures)
        if names not in self.places:
            self.places[names] = len(self.names)
            self.names.append(list(names))
        values = [float(f"{value:.7g}") for value in figures.values()]
        return [{key: facts[key] for key in INDEXED if key in facts}, self.places[names], values]

    def keep(self) -> None:
        if self.fresh == self.known:
            return
        kept = {"version": VERSION, "names": self.names, "runs": self.fresh}
        with suppress(OSError), whole_file(self.path, sync=False) as file:  # somebody else's logs may only be read
            file.write(json.dumps(kept, ensure_ascii=False, separators=(",", ":")))
