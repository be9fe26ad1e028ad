"""What trackers of experiments have in common."""

import json
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlparse

from PIL import Image

from cliplab.files import whole_file
from cliplab.nested import flat
from cliplab.training.loggers import read_logged

IDS = "trackers.json"  # in the run's folder: the ids of its runs in trackers
PANELS = Path("zeroshot", "panel")  # there: pictures <set>-<step>.png
SECONDS = 5.0  # to wait for a server before a run is begun


@runtime_checkable
class Tracker(Protocol):
    """What a run tells a tracker beside its figures."""

    def begin(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Once, before training: the config, and facts of the model such as its size. Raises ValueError or OSError with a
        line for people when the tracker cannot be used."""

    def catch_up(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """When training goes on: log what a kill has kept from it of the rows of ``metrics.csv`` up to the checkpoint, and
        of the panels."""

    def show(self, name: str, picture: Image.Image, step: int) -> None: ...

    def attach(self, file: Path) -> None:
        """Keep a file with the run."""

    def end(self, status: str) -> None:
        """``finished``, ``failed`` or ``stopped``."""


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a tracker is told of a config: its values by dotted keys, without where things lie."""
    return flat({key: value for key, value in config.items() if key not in ("paths", "logger")})


def check_reachable(key: str, url: str, way: str = "") -> None:
    """Raises OSError when nobody answers at the host and port of a web address."""
    parts = urlparse(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=SECONDS).close()
    except OSError as error:
        hint = f"check the address and the network{', ' + way if way else ''}"
        raise OSError(f"{key}: {url} cannot be reached ({error}); {hint}") from error


class Kept:
    """The id of a run in its tracker, and what is logged there already, both from the run's folder."""

    def __init__(self, run_dir: Path, tracker: str) -> None:
        self.file, self.tracker = run_dir / IDS, tracker
        goes_on = (run_dir / "checkpoints" / "last.ckpt").is_file()
        ids = self._ids() if goes_on else {}
        self.id: str | None = ids.get(tracker)
        self.logged = read_logged(run_dir) if goes_on and self.id else {}

    @property
    def last_evaluation(self) -> int:
        evaluated = [last for key, last in self.logged.items() if not key.startswith(("train/", "data/", "step"))]
        return max(evaluated, default=-1)

    def _ids(self) -> dict[str, str]:
        return json.loads(self.file.read_text(encoding="utf8")) if self.file.is_file() else {}

    def panels(self) -> list[tuple[str, int, Path]]:
        """Those that the run has drawn, in the order of their steps: name, step and file."""
        found = [(*path.stem.rpartition("-"), path) for path in (self.file.parent / PANELS).glob("*-*.png")]
        return sorted(
            ((f"panel/{name}", int(step), path) for name, _, step, path in found),
            key=lambda panel: (panel[1], panel[0]),
        )

    def keep(self, run_id: str) -> None:
        self.id = run_id
        ids = {**self._ids(), self.tracker: run_id}
        with whole_file(self.file) as file:
            json.dump(ids, file, indent=1)

    def fresh(self, metrics: Mapping[str, Any], step: int | None) -> dict[str, Any]:
        """Those that are not logged yet at this step."""
        return {key: value for key, value in metrics.items() if step is None or step > self._last(key)}

    def catch_up(
        self,
        rows: Iterable[Mapping[str, Any]],
        log: Callable[[dict[str, float], int], None],
        show: Callable[[str, Image.Image, int], None],
    ) -> None:
        """Log the figures of the rows that are not logged yet, and the panels up to the last row. Rows are in the order of
        their steps."""
        rows = list(rows)
        if self.id and rows:
            for name, step, file in self.panels():
                if step <= int(rows[-1]["step"]):
                    with Image.open(file) as picture:
                        show(name, picture, step)
        for row in rows:
            step = int(row["step"])
            figures = {key: float(value) for key, value in row.items() if key != "step" and value not in (None, "")}
            log(figures, step)
            self.logged |= {key: max(step, self.logged.get(key, -1)) for key in figures}

    def _last(self, key: str) -> int:
        """Level lines are drawn with each evaluation, and stand in no file."""
        return self.last_evaluation if key.startswith("reference/") else self.logged.get(key, -1)

    def is_fresh(self, picture: str, step: int) -> bool:
        """Of a picture of the set that its name ends with, which is logged with the figures of the set."""
        if picture in self.logged:
            return step > self.logged[picture]
        of_set = f"/{picture.rpartition('/')[2]}/"
        return step > max((last for key, last in self.logged.items() if of_set in f"/{key}"), default=-1)


def run_title(run_dir: Path) -> str:
    """``emoji/2026-11-26_02-28-09-8ee6``, and for a job of a sweep its sweep's name and number."""
    return "/".join(run_dir.parts[-2:])


def trackers_of(loggers: Sequence[Any]) -> list[Tracker]:
    return [logger for logger in loggers if isinstance(logger, Tracker)]
