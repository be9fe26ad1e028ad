"""Where and how precisely a benchmark computes."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch

from cliplab.settings.config import ConfigError

PRECISIONS = {"bf16-mixed": torch.bfloat16, "32-true": torch.float32}


def device_of(config: Mapping[str, Any]) -> torch.device:
    """A GPU where there is one and ``trainer.accelerator`` is not cpu."""
    wanted = config["trainer"]["accelerator"] != "cpu"
    return torch.device("cuda", 0) if wanted and torch.cuda.is_available() else torch.device("cpu")


class Setting(NamedTuple):
    """The device, and the type of its matrix products: bfloat16 by autocast, or float32."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, config: Mapping[str, Any], threads: int | None) -> "Setting":
        """Of ``trainer.accelerator`` and ``trainer.precision``. ``threads`` are those of a CPU; None leaves torch's number.

        Raises ConfigError for a precision that is not measured.
        """
        precision = str(config["trainer"]["precision"])
        if precision not in PRECISIONS:
            raise ConfigError(
                f"trainer.precision: {precision!r} is not measured; task=benchmark takes {', '.join(PRECISIONS)} or auto"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        return cls(device_of(config), PRECISIONS[precision])

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def kind(self) -> str:
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.kind}, torch {torch.__version__}"
        return f"CPU with {torch.get_num_threads()} thread(s), {self.kind}, torch {torch.__version__}"
