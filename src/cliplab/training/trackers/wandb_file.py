"""What stands in the files of offline runs of Weights & Biases.

Its service writes them a little later than it is told: what a kill of both leaves out is known from them alone. A file is
a log of records as LevelDB writes it: a header of 7 bytes, then blocks of 32 KiB of pieces, each with checksum, length and
type. Source: the format of LevelDB's log files.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

HEADER, BLOCK, PIECE = 7, 32768, struct.Struct("<IHB")
WHOLE, LAST = 1, 4  # types of pieces; 2 and 3 are the first and a middle one of a record
STEP = "trainer/global_step"


def records(file: Path) -> Iterator[bytes]:
    """The whole records; what a kill has cut off at the end is left out."""
    content = file.read_bytes()
    place, record = HEADER, b""
    while place + PIECE.size <= len(content):
        left = BLOCK - place % BLOCK
        if left < PIECE.size:  # padding
            place += left
            continue
        _, length, kind = PIECE.unpack_from(content, place)
        place += PIECE.size
        if kind == 0 or place + length > len(content):
            return
        record += content[place : place + length]
        place += length
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """What was logged, in order. Of a picture, which is a mapping, one of its values."""
    import wandb.proto.wandb_internal_pb2 as proto

    for content in records(file):
        record = proto.Record.FromString(content)  # type: ignore[attr-defined]
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def last_steps(
    folder: Path, run_id: str, logged: Mapping[str, int], pictures: Set[str] = frozenset()
) -> dict[str, int]:
    """The last step of each figure and picture in the files of a run under ``folder``, where any are left. Figures of
    ``logged`` and ``pictures`` that are in no file count as logged before the first of them; where a kill left files without
    a row, as never logged."""
    files = sorted(folder.glob(f"wandb/offline-run-*-{run_id}*/run-{run_id}.wandb"))
    if not files:
        return dict(logged)
    found = [row for file in files for row in rows(file) if STEP in row]
    steps = dict.fromkeys({*logged, *pictures}, min((row[STEP] for row in found), default=0) - 1)
    for row in found:
        steps |= {key: max(row[STEP], steps.get(key, -1)) for key in row}
    return steps
