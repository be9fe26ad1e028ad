"""What is known of a device before it is rented."""

from dataclasses import dataclass

import torch

from cliplab.rules import Positive, Share

GB = 10**9


@dataclass(frozen=True)
class Device:
    """Figures of a data sheet, and the shares of them that are assumed to be reached; see ``configs/device``."""

    name: str
    memory_gb: Positive
    half_tflops: Positive
    bfloat16: bool
    single_tflops: Positive
    bandwidth_gb: Positive
    link_gb: Positive
    network_gb: Positive
    usable_share: Share
    matrix_share: Share
    bandwidth_share: Share
    link_share: Share
    mfu: Share | None = None

    @property
    def usable_bytes(self) -> float:
        return self.memory_gb * GB * self.usable_share

    def speed(self, dtype: torch.dtype) -> float:
        """Floating-point operations a second of matrix products."""
        return 1e12 * (self.half_tflops if dtype.itemsize == 2 else self.single_tflops)

    def seconds(self, flops: int, moved: int, dtype: torch.dtype) -> float:
        """Of an operation: what takes longer, computing or its bytes."""
        computing = flops / (self.speed(dtype) * self.matrix_share)
        return max(computing, moved / (self.bandwidth_gb * GB * self.bandwidth_share))

    def seconds_to_send(self, sent: float, nodes: int) -> float:
        """Of bytes that each device sends. Where there are other nodes, the network is what takes longest."""
        return sent / ((self.network_gb if nodes > 1 else self.link_gb) * GB * self.link_share)
