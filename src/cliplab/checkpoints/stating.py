"""States an evaluation transform as open_clip's preprocess_cfg and as the fields of transformers' CLIPImageProcessor: the
counterpart of preprocessing.py, which reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from cliplab.checkpoints.preprocessing import CROP, FIT, SQUASH, UNRESIZED
from cliplab.checkpoints.weights import PLAIN_TRANSFORM


def _refusal(form: str, transform: Mapping[str, Any]) -> ValueError:
    kind = transform["_target_"].rpartition(".")[2]
    details = ", ".join(f"{key}={value}" for key, value in transform.items() if key != "_target_")
    said = f"{kind} ({details})" if details else kind
    return ValueError(f"format={form}: it cannot state this model's preprocessing, {said}; use format=safetensors")


def preprocess_cfg(transform: Mapping[str, Any] | None, image_size: int) -> dict[str, Any]:
    """The fields of open_clip's ``preprocess_cfg`` without the statistics. Raises ValueError naming a transform that it
    cannot state: another length before the crop, or another filter than its two."""
    transform = transform or PLAIN_TRANSFORM
    modes = {CROP: "shortest", SQUASH: "squash", FIT: "longest"}
    mode = modes.get(transform["_target_"])
    interpolation = transform.get("interpolation", "bicubic")
    sized = {transform.get("short_side") or image_size, *(transform.get("size") or ())} != {image_size}
    if mode is None or sized or interpolation not in ("bicubic", "bilinear"):
        raise _refusal("open_clip", transform)
    fill = {"fill_color": transform.get("fill", 0)} if mode == "longest" else {}
    return {"size": image_size, "interpolation": interpolation, "resize_mode": mode, **fill}


def processor_fields(transform: Mapping[str, Any] | None, image_size: int) -> dict[str, Any]:
    """The fields of ``CLIPImageProcessor`` without the statistics. Raises ValueError naming a transform that it cannot
    state: one with borders."""
    transform = transform or PLAIN_TRANSFORM
    target = transform["_target_"]
    cropped = {"do_center_crop": True, "crop_size": {"height": image_size, "width": image_size}}
    if target == UNRESIZED:
        return {"do_resize": False, **cropped}
    resample = {"resample": Image.Resampling[transform.get("interpolation", "bicubic").upper()].value}
    if target == CROP:
        return {"size": {"shortest_edge": transform.get("short_side") or image_size}, **resample, **cropped}
    if target == SQUASH:
        size: Sequence[int] = transform.get("size") or (image_size, image_size)
        square = {*size} == {image_size}
        sides = {"size": {"height": size[0], "width": size[1]}, **resample}
        return {**sides, "do_center_crop": False} if square else {**sides, **cropped}
    raise _refusal("huggingface", transform)
