"""Whether the hub answers, asked before anything heavy is imported when data are to be read from it."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cliplab.settings.check_values import READ_DATA, caption_paths, labelled_paths
from cliplab.settings.config import ConfigError

OFF = ("", "0", "false", "no", "off")


def check_hub(config: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Raises ConfigError when a data set lies on the hub and the hub does not answer. ``origins`` are as of
    ``check_values``."""
    offline = any(os.environ.get(name, "").lower() not in OFF for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    found = next(_on_hub(config), None)
    if offline or found is None:
        return
    from cliplab.models.hub import hub_silence  # imports the hub's client

    silence = hub_silence()
    if silence:
        key = origins.get(found[0], found[0])
        raise ConfigError(
            f"{key}: {found[1]} is on the Hugging Face hub, and {silence}; name a local copy with {key}=<folder or file>, "
            "or type HF_HUB_OFFLINE=1 before the command for what was fetched before"
        )


def _on_hub(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys and names of the data sets that the task reads from the hub."""
    task = (config.get("task") or {}).get("name")
    keys = [*caption_paths(config.get("data") or {})] if task in READ_DATA else []
    if task in ("train", "evaluate"):
        keys += labelled_paths(config.get("zeroshot") or {})
    for key, path in keys:
        name = str(path or "")
        local = name.startswith(("/", ".", "~")) or "://" in name or Path(name).expanduser().exists()
        if name.count("/") == 1 and not local and not set("*?[{:") & set(name):
            yield key, name
