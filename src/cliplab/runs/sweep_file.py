"""sweep.yaml at the root of a multirun: what was typed for it and how its jobs are chosen and compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cliplab.files import whole_file
from cliplab.reporting.sweep.typed import readable_yaml

SWEEP = "sweep.yaml"


def read_sweep_file(folder: Path) -> dict[str, Any]:
    """Its facts; empty when there is none or it cannot be read.

    ``command`` ``typed`` (all overrides) ``flags``; ``fixed`` (overrides of every job); ``swept`` (key to what is tried);
    ``method`` (the choice of sweep=) ``how`` (the same in words) ``jobs`` (how many there will be) ``seed``;
    ``metric`` and ``direction``, lists; ``storage`` and ``study`` of a search; ``id``; ``started``.
    """
    facts = readable_yaml(folder / SWEEP)
    return facts if isinstance(facts, dict) else {}


def write_sweep_file(folder: Path, facts: Mapping[str, Any]) -> None:
    with whole_file(folder / SWEEP) as file:
        yaml.safe_dump(dict(facts), file, sort_keys=False, allow_unicode=True)
