"""What the benchmarks that read texts are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cliplab.benchmarks.batch import Captions, MadeBatch, make_batch
from cliplab.benchmarks.contenders import Peer
from cliplab.benchmarks.setting import Setting
from cliplab.rules import Count, NonNegative, Positive


class Prepared(NamedTuple):
    """Where it is measured, on which batch, and that in words."""

    setting: Setting
    batch: MadeBatch
    about: str


@dataclass(frozen=True)
class Workload:
    """``peers`` are timed in turn with ours, ``rounds`` times ``steps`` runs. ``from_data``, ``mean_tokens`` and ``spread``
    are those of ``Captions``, ``threads`` those of a CPU."""

    config: dict[str, Any]
    tokenizer: Any
    batch_size: Count
    peers: Sequence[Peer]
    rounds: Count
    steps: Count
    from_data: bool
    mean_tokens: Positive
    spread: NonNegative
    threads: Count | None

    def prepared(self, pixels: bool = True) -> Prepared:
        """See ``make_batch`` for ``pixels``. Raises ConfigError for a precision that is not measured, and for captions that
        cannot be made."""
        setting = Setting.of(self.config, self.threads)
        captions = Captions(self.from_data, self.mean_tokens, self.spread)
        batch = make_batch(self.config, self.tokenizer, captions, self.batch_size, pixels)
        return Prepared(setting, batch, f"batch {self.batch_size}, {captions.told(batch.tokens)}")
