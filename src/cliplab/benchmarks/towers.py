"""One tower alone, forward and backward, ours beside open_clip's and transformers'."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.comparing import compare, facts_of, figures_of, said, table
from cliplab.benchmarks.contenders import Contender
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.measuring import Work
from cliplab.benchmarks.setting import Setting


def forward_and_backward(contender: Contender, tower: Callable[[Any], Tensor], inputs: Any, setting: Setting) -> Work:
    """Work over inputs that are on the device already; the gradient of the embeddings is a fixed random one."""
    with torch.no_grad(), setting.autocast():
        gradient = torch.randn_like(tower(inputs))

    def work() -> None:
        with setting.autocast():
            embeds = tower(inputs)
        embeds.backward(gradient)
        contender.optimizer.zero_grad(set_to_none=True)

    return work


def measure_tower(
    config: dict[str, Any],
    setting: Setting,
    batch: MadeBatch,
    *,
    of: Callable[[Contender], tuple[Callable[[Any], Tensor], Any]],
    operations_of: Callable[[Contender], int],
    counts: dict[str, float],
    peers: Sequence[str],
    rounds: int,
    steps: int,
    about: str,
) -> Measured:
    """``of`` gives the tower of a contender and its inputs. The first of ``counts`` is told in the sentence."""
    compared = compare(
        config,
        setting,
        batch,
        lambda contender: forward_and_backward(contender, *of(contender), setting),
        operations_of,
        peers=peers,
        rounds=rounds,
        steps=steps,
    )
    what, count = next(iter(counts.items()))
    rows = table(figures_of(compared.timed, counts), list(compared.contenders))
    return Measured(rows, f"{about}, {setting}: {said(compared, count, what)}", facts_of(compared.timed, setting))
