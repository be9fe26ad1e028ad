"""How pictures are prepared, as preprocessor_config.json and open_clip's preprocess_cfg state it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from cliplab.checkpoints.stated import Stated, read_json
from cliplab.models.encoders import CLIP_MEAN, CLIP_STD

CROP = "cliplab.data.transforms.EvalTransform"
SQUASH = "cliplab.data.transforms.SquashTransform"
FIT = "cliplab.data.transforms.FitTransform"
UNRESIZED = "cliplab.data.transforms.CropTransform"
HALF = (0.5, 0.5, 0.5)
FILTERS = {filter_.value: filter_.name.lower() for filter_ in Image.Resampling}  # Pillow's numbers
# Fields that say who made the file or how a call returns its tensors. Pictures are RGB before they get here.
NO_EFFECT = (
    "image_processor_type", "feature_extractor_type", "processor_class", "_processor_class", "do_convert_rgb",
    "return_tensors", "device", "disable_grouping", "image_seq_length", "_valid_processor_keys", "model_input_names",
    "input_data_format", "transformers_version",
)  # fmt: skip

# Facts of a tag that concern its weights, not its pictures
NO_TRANSFORM = ("url", "hf_hub", "quick_gelu")


class Preprocessing(NamedTuple):
    """``transform`` is the config of an evaluation transform without its ``image_size``."""

    transform: dict[str, Any]
    mean: Sequence[float]
    std: Sequence[float]


class _Defaults(NamedTuple):
    """The defaults of a transformers class, for fields that its file leaves out.

    ``side`` is the length in ``size``, and in ``crop_size`` where ``crop`` says that the class has one.
    """

    shortest: bool
    crop: bool
    mean: Sequence[float]
    std: Sequence[float]
    side: int = 224


FAMILIES = {
    "CLIPImageProcessor": _Defaults(True, True, CLIP_MEAN, CLIP_STD),
    "SiglipImageProcessor": _Defaults(False, False, HALF, HALF),
}


def _processor_file(folder: Path) -> tuple[Path, dict[str, Any], str]:
    """The file that states the image processor, its values, and their place in the file."""
    newer, older = folder / "processor_config.json", folder / "preprocessor_config.json"
    if newer.is_file():
        values = read_json(newer)
        if "image_processor" in values:  # transformers prefers it, too
            return newer, values["image_processor"], "image_processor"
    return older, read_json(older) if older.is_file() else {}, ""


def read_processor(folder: Path, family: str, image_size: int) -> Preprocessing:
    """The image processor of a transformers folder, or the default of ``family`` at the tower's size.

    Raises ValueError naming file and field for a setting that is not supported.
    """
    file, values, place = _processor_file(folder)
    # In transformers a step that is null is off. A value that is null is missing; it does not become the default.
    off = {key: False for key, value in values.items() if value is None and key.startswith("do_")}
    stated = Stated({**values, **off}, file, place)
    kind = str(values.get("image_processor_type") or values.get("feature_extractor_type") or family)
    name = kind.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if name not in FAMILIES:
        raise stated.refusal("image_processor_type", kind, f"{' and '.join(FAMILIES)} can be followed")
    # Without a file transformers has no processor at all, and the tower's size is taken.
    defaults = FAMILIES[name] if values else FAMILIES[name]._replace(side=image_size)
    _refuse_null(stated, defaults)
    transform = _transform(stated, defaults, image_size)
    mean, std = _statistics(stated, defaults)
    stated.pass_over(NO_EFFECT)
    stated.finish()
    return Preprocessing(transform, mean, std)


# Which step needs which values
NEEDED = {
    "do_resize": ("size", "resample"),
    "do_center_crop": ("crop_size",),
    "do_rescale": ("rescale_factor",),
    "do_normalize": ("image_mean", "image_std"),
}


def _refuse_null(stated: Stated, defaults: _Defaults) -> None:
    """Raises ValueError for a value that is null although its step is on, as transformers does."""
    for step, keys in NEEDED.items():
        for key in keys if stated.left.get(step, step != "do_center_crop" or defaults.crop) else ():
            if key in stated.left and stated.left[key] is None:
                raise stated.refusal(key, None, f"{step} needs a value; leave the field out for transformers' default")


def _sides(stated: Stated, key: str, shortest: bool, default: dict[str, int]) -> dict[str, int]:
    """``size`` or ``crop_size`` in one of its spellings: a number, (height, width), or a dictionary."""
    value = stated.take(key, default)
    if isinstance(value, int):
        value = {"shortest_edge": value} if shortest else {"height": value, "width": value}
    if isinstance(value, list | tuple) and len(value) == 2:
        value = dict(zip(("height", "width"), value, strict=True))
    known = ({"shortest_edge"}, {"height", "width"})
    if isinstance(value, Mapping):
        value = {k: v for k, v in value.items() if v is not None}
    if (
        not isinstance(value, Mapping)
        or set(value) not in known
        or not all(type(v) is int and v > 0 for v in value.values())
    ):
        raise stated.refusal(key, value, "a shortest_edge, or a height and a width, can be followed")
    return dict(value)


def _lengths(stated: Stated, defaults: _Defaults, cropped: bool) -> tuple[dict[str, int], dict[str, int]]:
    """``size`` and ``crop_size``, as stated or as the library's class has them."""
    square = {"height": defaults.side, "width": defaults.side}
    in_full = {"shortest_edge": defaults.side} if defaults.shortest else square
    size = _sides(stated, "size", not stated.switch("default_to_square", False), in_full)
    if cropped and stated.left.get("crop_size") is None and not defaults.crop:
        raise stated.refusal("crop_size", None, "with do_center_crop a height and a width must be stated")
    return size, _sides(stated, "crop_size", False, square)


def _transform(stated: Stated, defaults: _Defaults, image_size: int) -> dict[str, Any]:
    resized, cropped = stated.switch("do_resize", True), stated.switch("do_center_crop", defaults.crop)
    square = {"height": image_size, "width": image_size}
    by_class = {
        key: "" if stated.left.get(key) else "; the file leaves it out, and this is what transformers then takes"
        for key in ("size", "crop_size")
    }
    size, crop = _lengths(stated, defaults, cropped)
    interpolation = stated.choice("resample", FILTERS, 3, "Pillow's filters")
    stated.only("do_pad", (False,), "pictures are not padded here")
    stated.only("use_square_size", (False,), "say the size as a height and a width")
    stated.only("data_format", ("channels_first", "ChannelDimension.FIRST"), "towers take channels first")
    stated.pass_over(("pad_size",))
    if cropped and crop != square:
        why = f"the model takes pictures of image_size {image_size}{by_class['crop_size']}"
        raise stated.refusal("crop_size", crop, why)
    if not cropped and not resized:
        raise stated.refusal("do_resize", False, "without do_center_crop pictures would keep their own sizes")
    if not cropped and size != square:
        reason = f"the model takes pictures of image_size {image_size}"
        if "shortest_edge" in size:
            reason = "pictures would not be square without do_center_crop"
        raise stated.refusal("size", size, reason + by_class["size"])
    rounding = {"crop_rounding": "down"} if cropped else {}
    if not resized:
        return {"_target_": UNRESIZED, **rounding}
    chosen = {} if interpolation == "bicubic" else {"interpolation": interpolation}
    if "shortest_edge" in size:
        side = {} if size["shortest_edge"] == image_size else {"short_side": size["shortest_edge"]}
        return {"_target_": CROP, **side, **chosen, **rounding}
    if size == square:
        return {"_target_": SQUASH, **chosen}
    return {"_target_": SQUASH, "size": [size["height"], size["width"]], **chosen, **rounding}


def channel_values(stated: Stated, key: str, default: Sequence[float]) -> list[float]:
    """A number for each of the three channels. A single number is used for all three."""
    value = stated.take(key, list(default))
    values: list[Any] = []
    if isinstance(value, int | float):
        values = [value] * 3
    elif isinstance(value, list | tuple):
        values = list(value)
    if len(values) != 3 or not all(isinstance(x, int | float) for x in values) or (key.endswith("std") and 0 in values):
        raise stated.refusal(key, value, "it must be three numbers, and a standard deviation must not be 0")
    return [float(x) for x in values]


def _statistics(stated: Stated, defaults: _Defaults) -> tuple[list[float], list[float]]:
    """Mean and deviation for pictures in 0..1, equivalent to the stated rescaling and normalising."""
    mean = channel_values(stated, "image_mean", defaults.mean)
    std = channel_values(stated, "image_std", defaults.std)
    factor = stated.number("rescale_factor", 1 / 255)
    if not stated.switch("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    if not stated.switch("do_rescale", True):
        factor = 1.0
    elif factor == 0:
        raise stated.refusal("rescale_factor", factor, "every picture would be black")
    if abs(255 * factor - 1) < 1e-9:
        return mean, std
    return [m / (255 * factor) for m in mean], [s / (255 * factor) for s in std]


def read_preprocess_cfg(
    values: Mapping[str, Any], file: Path | str, image_size: int, *, squash: bool = False
) -> Preprocessing:
    """open_clip's ``preprocess_cfg``, or the facts of one of its tags. ``squash`` takes SigLIP's defaults.

    Raises ValueError naming the field that is not supported.
    """
    stated = Stated(values, file, "preprocess_cfg")
    mean = channel_values(stated, "mean", HALF if squash else CLIP_MEAN)
    std = channel_values(stated, "std", HALF if squash else CLIP_STD)
    # At inference open_clip takes "random" as bicubic.
    names = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}
    interpolation = stated.choice("interpolation", names, "bicubic", "open_clip's transforms")
    targets = {"shortest": CROP, "squash": SQUASH, "longest": FIT}
    target = stated.choice("resize_mode", targets, "squash" if squash else "shortest", "open_clip's transforms")
    transform: dict[str, Any] = {"_target_": target}
    if interpolation != "bicubic":
        transform["interpolation"] = interpolation
    fill = stated.take("fill_color", 0)
    if target == FIT:
        if type(fill) is not int or not 0 <= fill <= 255:
            raise stated.refusal("fill_color", fill, "a grey level from 0 to 255 can be followed")
        transform["fill"] = fill
    stated.only("mode", ("RGB",), "towers take RGB")
    both = ([image_size, image_size], (image_size, image_size))
    stated.only("size", (image_size, *both), f"the model takes pictures of image_size {image_size}")
    stated.pass_over(NO_TRANSFORM)
    stated.finish()
    return Preprocessing(transform, mean, std)
