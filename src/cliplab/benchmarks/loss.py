"""benchmark=loss: the objective over random embeddings, forward and backward, at once, in blocks, and beside open_clip's."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.contenders import OURS
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.measuring import Ratio, Work, allocated, in_turn, matrix_speed, peak_bytes
from cliplab.benchmarks.operations import logit_operations
from cliplab.benchmarks.setting import Setting
from cliplab.models.clip import EMBEDS, Encoded
from cliplab.models.tokens import Tokens
from cliplab.objectives.objective import Objective
from cliplab.rules import Count
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError

PEER = "open_clip"
MIB = 2**20


class Sizes(NamedTuple):
    """What is measured at one number of pairs. ``block_sizes`` are values of ``objective.block_size``."""

    pairs: int
    width: int
    block_sizes: Sequence[int | None]
    peer: bool


class Times(NamedTuple):
    """Seconds of each round and peak memory in bytes, by the name of the loss. Others are compared with the first."""

    seconds: dict[str, list[float]]
    peaks: dict[str, int]


def random_pairs(batch_size: int, width: int, seed: int, setting: Setting) -> tuple[Tensor, Tensor]:
    """Unit vectors of images and texts that take a gradient."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (F.normalize(torch.randn(batch_size, width, generator=generator), dim=-1) for _ in range(2))
    images, texts = (x.to(setting.device).requires_grad_() for x in drawn)
    return images, texts


def _objectives(config: dict[str, Any], block_sizes: Sequence[int | None]) -> dict[str, Objective]:
    """The configured objective by each block size."""
    found: dict[str, Objective] = {}
    for size in block_sizes:
        more = {"block_size": size} if "block_size" in config["objective"] else {}
        name = OURS if size is None else f"{OURS}, {size}"
        found[name] = build({**config["objective"], **more}, "objective")
    for objective in found.values():
        if not objective.reads <= EMBEDS or any(True for _ in objective.parameters()):
            raise ConfigError(
                "objective: benchmark=loss measures objectives of embeddings alone; choose clip or siglip"
            )
    return found


def _losses(config: dict[str, Any], setting: Setting, sizes: Sizes) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Ours, and open_clip's loss of its kind where that is installed."""
    bias = config["model"].get("init_logit_bias")
    scale = torch.tensor(math.log(100.0), device=setting.device, requires_grad=True)
    shift = None if bias is None else torch.tensor(float(bias), device=setting.device, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64, device=setting.device)
    groups = torch.arange(sizes.pairs, device=setting.device)
    there = MadeBatch(nothing.to(torch.uint8), Tokens(nothing, nothing), groups)

    def ours(objective: Objective) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda images, texts: objective(Encoded(images, texts, scale.exp(), shift), there).loss

    losses = {name: ours(objective) for name, objective in _objectives(config, sizes.block_sizes).items()}
    if sizes.peer and importlib.util.find_spec(PEER) is not None:
        from open_clip.loss import ClipLoss, SigLipLoss

        theirs = ClipLoss() if shift is None else SigLipLoss()
        more = {} if shift is None else {"logit_bias": shift}
        losses[PEER] = lambda images, texts: theirs(images, texts, logit_scale=scale.exp(), **more)
    return losses


def _times(config: dict[str, Any], setting: Setting, sizes: Sizes, rounds: int, steps: int) -> Times:
    pairs = random_pairs(sizes.pairs, sizes.width, config["seed"], setting)

    def work_of(loss: Callable[[Tensor, Tensor], Tensor]) -> Work:
        def work() -> None:
            loss(*pairs).backward()
            for embeds in pairs:
                embeds.grad = None

        return work

    works = {name: work_of(loss) for name, loss in _losses(config, setting, sizes).items()}
    peaks: dict[str, int] = {}
    for name, work in works.items():
        work()
        peaks[name] = peak_bytes(work, setting, pairs, allocated(setting))
    return Times(in_turn(works, rounds, steps, setting), peaks)


def _rows(times: Times, sizes: Sizes, speed: float) -> list[dict[str, Any]]:
    first = next(iter(times.seconds))
    needed = logit_operations(sizes.pairs, sizes.width)
    return [
        {
            "pairs": sizes.pairs,
            "loss": name,
            "ms": 1000 * median(seconds),
            "times as fast": str(Ratio.of(times.seconds[first], seconds)),
            "peak memory, MiB": times.peaks[name] / MIB,
            "times the memory": times.peaks[name] / times.peaks[first],
            "share of speed, %": 100 * needed / median(seconds) / speed,
        }
        for name, seconds in times.seconds.items()
    ]


def measure(
    *,
    config: dict[str, Any],
    batch_size: Count | Sequence[Count],
    block_sizes: Sequence[Count | None],
    whole_up_to: Count,
    rounds: Count,
    steps: Count,
    threads: Count | None,
) -> Measured:
    """One row for each number of pairs in ``batch_size`` and each loss. All logits at once, and with them open_clip's loss,
    are measured up to ``whole_up_to`` pairs: their memory grows with the square.

    All compute in float32, as in training. The share is of the device's float32 matrix products; a logit needs one product
    forward and two backward. ``threads`` of a CPU. Raises ConfigError where nothing is left to measure.
    """
    setting = Setting(Setting.of(config, threads).device, torch.float32)
    width, speed = config["model"]["embed_dim"], matrix_speed(setting)
    choices = block_sizes if "block_size" in config["objective"] else [None]
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for pairs in [batch_size] if isinstance(batch_size, int) else batch_size:
        whole = pairs <= whole_up_to
        wanted = [size for size in choices if size is not None or whole]
        if not wanted:
            raise ConfigError(
                f"benchmark.batch_size: {pairs} pairs are more than benchmark.whole_up_to={whole_up_to}, and no block size "
                "is measured; raise whole_up_to, or choose benchmark.block_sizes=[1024] and an objective with blocks"
            )
        sizes = Sizes(pairs, width, wanted, peer=whole)
        times = _times(config, setting, sizes, rounds, steps)
        rows += _rows(times, sizes, speed)
        facts[str(pairs)] = times._asdict()
    told = {"device": str(setting), "matrix_products_per_second": speed, "by_pairs": facts}
    return Measured(rows, f"loss of pairs in {width} dimensions, {setting}", told)
