"""The ``trainer`` group: which values no run can work with, and which of Lightning's options would undo cliplab's counting.

Only plain values are looked at; nothing heavy is imported.
"""

from collections.abc import Mapping
from typing import Any

from cliplab.settings.config import ConfigError, did_you_mean

ON_NAN = ("stop", "skip")


def check_trainer(config: Mapping[str, Any]) -> None:
    """Raises ConfigError when a value of ``trainer`` is none that a run can work with."""
    trainer = config.get("trainer") or {}
    on_nan = trainer.get("on_nan", "stop")
    if on_nan not in ON_NAN:
        hint = did_you_mean(str(on_nan), ON_NAN) or ""
        raise ConfigError(f"trainer.on_nan: {on_nan!r} must be {' or '.join(ON_NAN)}{hint}")
