"""benchmark=image_tower: the image tower forward and backward, ours beside open_clip's and transformers'."""

from collections.abc import Sequence
from typing import Any

from cliplab.benchmarks.batch import batch_of_images
from cliplab.benchmarks.contenders import Peer
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.operations import image_operations
from cliplab.benchmarks.setting import Setting
from cliplab.benchmarks.towers import measure_tower
from cliplab.rules import Count


def measure(
    *,
    config: dict[str, Any],
    batch_size: Count,
    peers: Sequence[Peer],
    rounds: Count,
    steps: Count,
    threads: Count | None,
) -> Measured:
    """Ours normalises uint8 pixels first; the peers get pixels normalised beforehand. ``threads`` of a CPU."""
    setting = Setting.of(config, threads)
    return measure_tower(
        config,
        setting,
        batch_of_images(config, batch_size),
        of=lambda contender: (contender.image, contender.load().images),
        operations_of=lambda contender: image_operations(contender, setting),
        counts={"images": batch_size},
        peers=peers,
        rounds=rounds,
        steps=steps,
        about=f"image tower, batch {batch_size}",
    )
