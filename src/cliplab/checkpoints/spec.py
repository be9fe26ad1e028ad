"""How ``pretrained=`` names weights. A command checks such names before torch is imported."""

from typing import Any

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")  # of files of weights
OPEN_CLIP = "open_clip:"  # the beginning of ``open_clip:<model>:<file or tag>``
OPEN_CLIP_CONFIG = "open_clip_config.json"  # in a folder of open_clip
WEIGHTS = ("raw", "ema")  # of a run: those that were trained, and their moving average


def no_average(source: Any) -> str:
    return f"weights=ema: {source} has no average of the weights; leave it out, or train with callbacks=ema"
