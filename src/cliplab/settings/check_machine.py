"""Check values that no machine of this size can use: towers that outgrow its memory, more workers than it can run."""

from collections.abc import Mapping
from typing import Any

from cliplab.cores import memory_bytes, usable_cores
from cliplab.settings.config import ConfigError

FLOAT_BYTES = 4
MATRICES = 12  # of a block of a transformer, each of width times width: attention has 4, the MLP 8
WORKERS_PER_CORE, MOST_WORKERS = 4, 32
TOWERS = ("image_encoder", "text_encoder")


def check_memory(model: Mapping[str, Any], available: int | None = None) -> None:
    """Raises ConfigError for a tower of a transformer whose weights alone need more bytes than ``available``: the memory of
    this machine. The key is that of the largest part."""
    available = available or memory_bytes()
    for tower in TOWERS:
        numbers = _numbers(model.get(tower), model.get("embed_dim"))
        needed = sum(numbers.values()) * FLOAT_BYTES
        if available and needed > available:
            key = max(numbers, key=lambda name: numbers[name])
            place = f"model.{key}" if key == "embed_dim" else f"model.{tower}.{key}"
            value = model["embed_dim"] if key == "embed_dim" else model[tower][key]
            raise ConfigError(
                f"{place}: with {value} the weights of this tower need {needed / 1e9:,.0f} GB, and this machine has "
                f"{available / 1e9:,.0f} GB of memory; set a smaller value"
            )


def _numbers(node: Any, embed_dim: Any) -> dict[str, int]:
    """How many numbers the parts of a tower hold, by the key that decides most about them. A tower is counted by the keys
    that it has: those of our transformers are counted in full."""
    sizes = {k: v for k, v in node.items() if isinstance(v, int) and v > 0} if isinstance(node, Mapping) else {}
    width, layers = sizes.get("width", 0), sizes.get("layers", 0)
    patches = (sizes.get("image_size", 0) // sizes.get("patch_size", 1)) ** 2 if "patch_size" in sizes else 0
    blocks = MATRICES * layers * width**2
    return {
        "layers" if layers > width else "width": blocks,
        "image_size": patches * width,
        "vocab_size": sizes.get("vocab_size", 0) * width,
        "context_length": sizes.get("context_length", 0) * width,
        "embed_dim": width * embed_dim if isinstance(embed_dim, int) else 0,
    }


def check_workers(data: Mapping[str, Any]) -> None:
    """Raises ConfigError for more reading processes than this machine can run beside each other."""
    workers = data.get("num_workers")
    most = max(MOST_WORKERS, WORKERS_PER_CORE * usable_cores())
    if isinstance(workers, int) and workers > most:
        raise ConfigError(
            f"data.num_workers: {workers} processes are too many for the {usable_cores()} cores of this machine; "
            f"set {most} or less, or null for one on each core"
        )
