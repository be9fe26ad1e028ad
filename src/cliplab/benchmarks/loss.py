"""benchmark=loss: the objective over random embeddings, forward and backward, ours beside open_clip's."""

import importlib.util
import math
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.comparing import table
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


def random_pairs(batch_size: int, width: int, seed: int, setting: Setting) -> tuple[Tensor, Tensor]:
    """Unit vectors of images and texts that take a gradient."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (F.normalize(torch.randn(batch_size, width, generator=generator), dim=-1) for _ in range(2))
    images, texts = (x.to(setting.device).requires_grad_() for x in drawn)
    return images, texts


def _losses(config: dict[str, Any], setting: Setting, batch_size: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The configured objective, and open_clip's loss of its kind where that is installed."""
    objective: Objective = build(config["objective"], "objective")
    if not objective.reads <= EMBEDS or any(True for _ in objective.parameters()):
        raise ConfigError("objective: benchmark=loss measures objectives of embeddings alone; choose clip or siglip")
    bias = config["model"].get("init_logit_bias")
    scale = torch.tensor(math.log(100.0), device=setting.device, requires_grad=True)
    shift = None if bias is None else torch.tensor(float(bias), device=setting.device, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64, device=setting.device)
    groups = torch.arange(batch_size, device=setting.device)
    there = MadeBatch(nothing.to(torch.uint8), Tokens(nothing, nothing), groups)
    losses = {OURS: lambda images, texts: objective(Encoded(images, texts, scale.exp(), shift), there).loss}
    if importlib.util.find_spec(PEER) is not None:
        from open_clip.loss import ClipLoss, SigLipLoss

        theirs = ClipLoss() if shift is None else SigLipLoss()
        more = {} if shift is None else {"logit_bias": shift}
        losses[PEER] = lambda images, texts: theirs(images, texts, logit_scale=scale.exp(), **more)
    return losses


def measure(
    *, config: dict[str, Any], batch_size: Count, rounds: Count, steps: Count, threads: Count | None
) -> Measured:
    """Both compute in float32, as in training. The share is of the device's float32 products. ``threads`` of a CPU."""
    setting = Setting(Setting.of(config, threads).device, torch.float32)
    width = config["model"]["embed_dim"]
    pairs = random_pairs(batch_size, width, config["seed"], setting)

    def work_of(loss: Callable[[Tensor, Tensor], Tensor]) -> Work:
        def work() -> None:
            loss(*pairs).backward()
            for embeds in pairs:
                embeds.grad = None

        return work

    works = {name: work_of(loss) for name, loss in _losses(config, setting, batch_size).items()}
    peaks = {}
    for name, work in works.items():
        work()
        peaks[name] = peak_bytes(work, setting, pairs, allocated(setting))
    seconds = in_turn(works, rounds, steps, setting)
    operations, speed = logit_operations(batch_size, width), matrix_speed(setting)
    typical = {name: median(taken) for name, taken in seconds.items()}
    ratios = {name: Ratio.of(seconds[name], seconds[OURS]) for name in works if name != OURS}
    figures: dict[str, dict[str, Any]] = {
        "ms": {name: 1000 * x for name, x in typical.items()},
        "pairs/s": {name: batch_size / x for name, x in typical.items()},
        "peak memory, MiB": {name: x / 2**20 for name, x in peaks.items()},
        "share of the device's matrix products, %": {name: 100 * operations / x / speed for name, x in typical.items()},
        f"{OURS} is times as fast": {name: str(ratio) for name, ratio in ratios.items()},
    }
    told = [f"{ratio} times as fast as {name}" for name, ratio in ratios.items()]
    summary = f"loss of {batch_size} pairs in {width} dimensions, {setting}: {1000 * typical[OURS]:.2f} ms"
    facts = {"device": str(setting), "seconds": seconds, "peak_bytes": peaks, "operations": operations}
    facts |= {"matrix_products_per_second": speed, "ratios": {name: r._asdict() for name, r in ratios.items()}}
    return Measured(table(figures, list(works)), "; ".join([summary, *told]), facts)
