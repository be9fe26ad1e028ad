"""Check the ``data`` group: keys that would change nothing, and a batch that the processes cannot share. This looks at plain
values only. Nothing heavy is imported."""

from collections.abc import Mapping
from typing import Any

from cliplab.settings.config import ConfigError
from cliplab.text import uneven_batch

OURS = "cliplab.data.sources.caption_source"
# Keys of data.train with what they are in configs/data/_base.yaml
PLACE = {"path": None, "split": "train", "name": None, "revision": None, "data_files": None, "reader": None}
OF_STREAMS = {"samples_per_epoch": None, "lanes": None, "shuffle_buffer": 6000, "parts": 12}
CHOICES = "image_folder, csv, json, webdataset, local_parquet or arrow"


def check_data(config: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Raises ConfigError. ``origins`` are as of ``check_values``."""
    data = config.get("data") or {}
    train = data.get("train")
    if isinstance(train, Mapping):
        _check_place(data, train, origins)
        if train.get("_target_") == OURS and not train.get("streaming"):
            for key, default in OF_STREAMS.items():
                if key in train and train[key] != default:
                    place = _typed_as(key, origins)
                    raise ConfigError(
                        f"{place}: {train[key]} is for streams, and these data are read by row; set data.streaming=true, or "
                        "leave it out: an epoch has all rows, or the first data.train.limit"
                    )
    check_shares(data.get("batch_size"), config.get("trainer") or {})


def _typed_as(key: str, origins: Mapping[str, str]) -> str:
    """The key by which a key of data.train is set."""
    return origins.get(f"data.train.{key}", f"data.train.{key}")


def _check_place(data: Mapping[str, Any], train: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Where the data lie, for sources that know it already."""
    made = train.get("dataset")
    if made is not None:
        for key, default in PLACE.items():
            value = train.get(key, default)
            if value != default:
                inner = isinstance(made, Mapping) and key in made
                own = f"set data.train.dataset.{key}, or " if inner else ""
                place = _typed_as(key, origins)
                raise ConfigError(
                    f"{place}: {value!r} would not be read: data.train.dataset makes the rows itself; {own}choose the "
                    f"layout of your data with data=: {CHOICES}"
                )
    elif data.get("path") is not None and "sources" in train and "path" not in train:
        raise ConfigError(
            f"data.path: {data['path']!r} would not be read: the sources of this mixture have paths of their own, "
            "data.train.sources.<name>; set those"
        )


def check_shares(batch_size: Any, trainer: Mapping[str, Any]) -> None:
    """A batch is that of all processes, where their number is known."""
    devices, nodes = trainer.get("devices"), trainer.get("num_nodes", 1)
    if not (isinstance(devices, int) and isinstance(nodes, int) and isinstance(batch_size, int)):
        return
    ranks = devices * nodes
    if devices > 0 and nodes > 0 and batch_size % ranks:
        raise ConfigError(uneven_batch(batch_size, ranks))
