"""benchmark=loss: the objective over random embeddings, forward and backward, ours beside open_clip's."""

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.comparing import Timed, facts_of, figures_of, table
from cliplab.benchmarks.contenders import OURS
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.measuring import Work, allocated, in_turn, matrix_speed, peak_bytes
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
    peaks: dict[str, int | None] = {}
    for name, work in works.items():
        work()
        peaks[name] = peak_bytes(work, setting, pairs, allocated(setting))
    seconds = in_turn(works, rounds, steps, setting)
    timed = Timed(seconds, peaks, logit_operations(batch_size, width), matrix_speed(setting))
    summary = f"loss of {batch_size} pairs in {width} dimensions, {setting}: {1000 * timed.typical(OURS):.2f} ms"
    rows = table(figures_of(timed, {"pairs": batch_size}), list(works))
    return Measured(rows, "; ".join([summary, *timed.ratios_in_words()]), facts_of(timed, setting))
