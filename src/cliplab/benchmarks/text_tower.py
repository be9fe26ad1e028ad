"""benchmark=text_tower: the text tower forward and backward, ours beside open_clip's and transformers'."""

from collections.abc import Sequence
from typing import Any

from cliplab.benchmarks.batch import Captions, make_batch
from cliplab.benchmarks.contenders import Peer
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.operations import text_operations
from cliplab.benchmarks.setting import Setting
from cliplab.benchmarks.towers import measure_tower
from cliplab.rules import Count, NonNegative, Positive


def measure(
    *,
    config: dict[str, Any],
    tokenizer: Any,
    batch_size: Count,
    peers: Sequence[Peer],
    rounds: Count,
    steps: Count,
    from_data: bool,
    mean_tokens: Positive,
    spread: NonNegative,
    threads: Count | None,
) -> Measured:
    """Tokens are real ones, without padding, for all contenders. ``threads`` of a CPU."""
    setting, captions = Setting.of(config, threads), Captions(from_data, mean_tokens, spread)
    batch = make_batch(config, tokenizer, captions, batch_size)
    return measure_tower(
        config,
        setting,
        batch,
        of=lambda contender: (contender.text, contender.load().texts),
        operations_of=lambda contender: text_operations(contender, setting, batch.tokens.lengths),
        counts={"tokens": int(batch.tokens.lengths.sum()), "texts": batch_size},
        peers=peers,
        rounds=rounds,
        steps=steps,
        about=f"text tower, batch {batch_size}, {captions.told(batch.tokens)}",
    )
