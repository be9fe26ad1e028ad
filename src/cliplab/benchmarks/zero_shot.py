"""benchmark=zero_shot: time to build the classifier from class names and templates, compared with open_clip's builder."""

import importlib.util
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cliplab.benchmarks.contenders import open_clip_twin
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.setting import device_of
from cliplab.evaluation.imagenet import imagenet_class_names, open_clip_metadata
from cliplab.evaluation.prompts import Prompts, load_templates
from cliplab.rules import Count
from cliplab.settings.build import build

COMPARED = 4  # the weights of so many classes are compared in float32; this also warms up


def _theirs(twin: nn.Module, names: list[str], templates: int, device: torch.device) -> Callable[[], Tensor]:
    import open_clip

    tokenizer = open_clip.SimpleTokenizer(context_length=twin.context_length)
    fill = open_clip_metadata().OPENAI_IMAGENET_TEMPLATES[:templates]

    def classifier() -> Tensor:
        return open_clip.build_zero_shot_classifier(
            twin, tokenizer, names, fill, num_classes_per_batch=10, device=device
        ).T

    return classifier


def _ours(
    model: Any, names: list[str], templates: list[str], tokenizer: Any, device: torch.device, cached: bool
) -> Callable[[], Tensor]:
    known = Prompts(names, templates, tokenizer) if cached else None

    def classifier() -> Tensor:
        prompts = known or Prompts(names, templates, tokenizer)
        return prompts.weights(model, device)[prompts.classes.to(device)]

    return classifier


def _seconds(build_classifier: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    start = time.perf_counter()
    weights = build_classifier()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, weights.float()


def measure(
    *,
    config: dict[str, Any],
    tokenizer: Any,
    classes: Count,
    templates: Count,
    rounds: Count,
    precision: Literal["bf16", "fp32"],
    threads: Count,
) -> Measured:
    """Time both builders in turn on the chosen model with random weights, with ``threads`` threads of a CPU. The time
    includes tokenising, except in the row for a later evaluation, which has tokenised the prompts before."""
    torch.set_num_threads(threads)
    device = device_of(config)
    model = build(config["model"], "model").eval()
    names, filled = imagenet_class_names()[:classes], load_templates("openai_80")[:templates]
    twin = open_clip_twin(config["model"], model).to(device).eval() if importlib.util.find_spec("open_clip") else None
    model = model.to(device)

    def builders(names: list[str]) -> dict[str, Callable[[], Tensor]]:
        theirs = {} if twin is None else {"open_clip": _theirs(twin, names, templates, device)}
        return {
            **theirs,
            "cliplab": _ours(model, names, filled, tokenizer, device, cached=False),
            "cliplab, later evaluations": _ours(model, names, filled, tokenizer, device, cached=True),
        }

    with torch.inference_mode():
        exact = {key: _seconds(builder, device)[1] for key, builder in builders(names[:COMPARED]).items()}
        timed = builders(names)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            taken = [{key: _seconds(builder, device)[0] for key, builder in timed.items()} for _ in range(rounds)]
    return _measured(exact, taken, f"{classes} classes x {templates} templates, {precision}, {device.type}")


def _measured(exact: dict[str, Tensor], taken: list[dict[str, float]], what: str) -> Measured:
    first = next(iter(exact))
    rows = [
        {
            "builder": key,
            "seconds": median(turn[key] for turn in taken),
            "times as fast": median(turn[first] / turn[key] for turn in taken),
            "largest difference": float((exact[key] - exact[first]).abs().max()),
        }
        for key in exact
    ]
    shown = next(row for row in rows if row["builder"] == "cliplab")
    summary = f"{what}: {shown['seconds']:.2f} s"
    if first == "open_clip":
        summary += (
            f", {shown['times as fast']:.1f} times as fast as open_clip's builder (median of {len(taken)} rounds); "
            f"weights differ by at most {shown['largest difference']:.1e} in float32"
        )
    return Measured(rows, summary, {"rounds": taken})
