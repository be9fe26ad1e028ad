"""Other settings that need less memory, each traced."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from cliplab.settings.check_trainer import every_nth
from cliplab.training.sharding import refusal

CHUNKS, BLOCK = 4, 1024


def alternatives(config: Mapping[str, Any], ranks: int, pairs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to type, and the config with it."""
    trainer = config["trainer"]
    chunks = trainer.get("contrastive_accumulation", 1) * CHUNKS
    if chunks <= pairs:
        yield _changed(config, "trainer", "contrastive_accumulation", chunks)
    if every_nth(trainer.get("activation_checkpointing")) != 1:
        yield _changed(config, "trainer", "activation_checkpointing", "all")
    if config["objective"].get("block_size", BLOCK) is None and ranks * pairs > BLOCK:
        yield _changed(config, "objective", "block_size", BLOCK)
    if ranks > 1 and trainer["strategy"] != "fsdp":
        typed, sharded = _changed(config, "trainer", "strategy", "fsdp")
        if not refusal(sharded):
            yield typed, sharded


def _changed(config: Mapping[str, Any], group: str, key: str, value: Any) -> tuple[str, dict[str, Any]]:
    changed = copy.deepcopy(dict(config))
    changed[group][key] = value
    return f"{group}.{key}={value}", changed
