"""``pretrained=``: finds and reads the weights that a user names, of any supported program."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from cliplab.checkpoints import open_clip
from cliplab.checkpoints.io import read_file
from cliplab.checkpoints.open_clip_names import model_and_place, named_config
from cliplab.checkpoints.openai import looks_native, read_openai
from cliplab.checkpoints.spec import OPEN_CLIP, OPEN_CLIP_CONFIG, SUFFIXES, no_average
from cliplab.checkpoints.stated import read_json
from cliplab.checkpoints.weights import PLAIN_TRANSFORM, ObjectiveWeights, Weights, lone_tower
from cliplab.models.hub import hub_or_cache, hub_silence
from cliplab.text import listed

ADAPTER_CONFIG = "adapter_config.json"  # of PEFT
WHOLE = ("model.safetensors", "pytorch_model.bin", OPEN_CLIP_CONFIG)
TRANSFORMERS = "a state dict of transformers"
# Descriptions of foreign state dicts, by the beginning of a key that only they have
KINDS = {
    "visual.trunk.": "an open_clip model around a timm tower",
    "text_decoder.": "a CoCa model",
    "vision_model.": TRANSFORMERS,
    "text_model.": TRANSFORMERS,
    "text.transformer.embeddings.": "an open_clip model around a Hugging Face text tower",
    "visual.blocks.": "an EVA model",
    "text.": "an open_clip model with a custom text tower",
}


def read_pretrained(spec: str, weights: str = "raw") -> Weights:
    """Read a weight file, a folder, a hub id, ``open_clip:<model>:<file or tag>``, or our own checkpoint or run folder.

    Raises ValueError for anything else, or when the file cannot be read strictly or does not fit its architecture; the
    message lists the keys or sizes. ``weights="ema"`` takes the moving average in a checkpoint of ours.
    """
    if weights == "ema":
        path = Path(spec).expanduser()
        last = path / "checkpoints" / "last.ckpt"
        if not path.is_file() and not last.is_file():
            raise ValueError(no_average(spec))
        return _file(path if path.is_file() else last, weights)
    if spec.startswith(OPEN_CLIP):
        return _named(spec)
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    if path.suffix in SUFFIXES or path.is_absolute() or spec.count("/") != 1 or spec.startswith("."):
        raise ValueError(f"{spec} is neither a file nor a folder")
    return _folder(_fetched(spec))


def _named(spec: str) -> Weights:
    name, where = model_and_place(spec)
    config, path = named_config(name), Path(where).expanduser()
    facts: dict[str, Any] = {}
    if not path.is_file():
        path, facts = open_clip.pretrained_tag(name, where)
    state, file_facts = read_file(path)
    if "QuickGELU" in file_facts.get("classes", ()) and not config.get("quick_gelu"):
        raise ValueError(f"{path}: the file has QuickGELU and {name} has GELU; use open_clip:{name}-quickgelu:{where}")
    tokenizer_folder = str(path.parent) if (path.parent / "tokenizer.json").is_file() else None
    return open_clip.read_open_clip(config, facts, state, spec, tokenizer_folder)


def _folder(folder: Path) -> Weights:
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        return _file(last)
    if (folder / ADAPTER_CONFIG).is_file() and not any((folder / name).is_file() for name in WHOLE):
        base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
        raise ValueError(f"{folder}: {_adapter_message(base, str(folder))}")
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return open_clip.read_folder(folder)
    if (folder / "config.json").is_file():
        kind = read_json(folder / "config.json").get("model_type")
        if kind == "clip":
            from cliplab.checkpoints.huggingface import read_clip_folder

            return read_clip_folder(folder)
        if kind == "siglip":
            from cliplab.checkpoints.siglip import read_siglip_folder

            return read_siglip_folder(folder)
        if kind != "cliplab":
            raise ValueError(f"{folder / 'config.json'}: model_type is {kind!r}; {_instead(kind)}")
    files = sorted(f for f in folder.iterdir() if f.suffix in SUFFIXES)
    if len(files) == 1:
        return _file(files[0])
    found = f"{len(files)} files of weights: {listed([f.name for f in files])}" if files else "no weights"
    raise ValueError(f"{folder}: it has neither config.json nor {OPEN_CLIP_CONFIG} and holds {found}; name one file")


def _adapter_message(base: Any, folder: str) -> str:
    return (
        f"this is an adapter of PEFT for {base or 'another model'}, not a whole model; merge it first, in Python: "
        f"PeftModel.from_pretrained(CLIPModel.from_pretrained({base or '<its base model>'!r}), {folder!r})"
        ".merge_and_unload().save_pretrained('merged'), and name that folder"
    )


def _instead(kind: Any) -> str:
    """What can be used in place of a model of transformers that cannot be read."""
    readable = "clip and siglip can be read (CLIPModel, SiglipModel), and open_clip's folders"
    if kind == "siglip2":
        return (
            "its NaFlex towers take a picture as a number of patches in its own shape, and cliplab's take one image_size; "
            "use the weights of a fixed size, such as google/siglip2-base-patch16-224 (its model_type is siglip) or "
            "open_clip:ViT-B-16-SigLIP2:webli"
        )
    if str(kind).startswith(("clip_", "siglip_", "siglip2_")):
        return f"this is one tower alone; {readable}"
    return readable


def _file(path: Path, weights: str = "raw") -> Weights:
    state, facts = read_file(path, weights)
    if "cliplab" in facts:
        return run_weights(facts["cliplab"], state, str(path), facts.get("objective", {}))
    if any(".lora_A." in key or ".lora_B." in key for key in state):
        raise ValueError(f"{path}: {_adapter_message(None, str(path.parent))}")
    native = open_clip.native_state(state)
    if "-of-" not in path.name and (lone := lone_tower(state)):  # one file of several may well hold one tower
        raise ValueError(f"{path}: {lone}")
    if not looks_native(native):
        raise ValueError(f"{path}: {_kind(state)}; {_way_on(state, path)}")
    found = read_openai(native, str(path), facts.get("classes"))
    if found.assumed:
        assumed = "heads of width 64" + (" and QuickGELU" if "text_encoder.activation" in found.assumed else "")
        warnings.warn(
            f"{path} does not state its architecture in full: OpenAI's convention is assumed, {assumed}; "
            f"if that is wrong, name the model, pretrained=open_clip:<model name>:{path}",
            stacklevel=2,
        )
    return found


def run_weights(
    config: Mapping[str, Any], state: Mapping[str, Tensor], source: str, objective_state: Mapping[str, Tensor]
) -> Weights:
    """The weights in one of our checkpoints, with the configs that it holds."""
    stated = config.get("data", {}).get("eval_transform") or PLAIN_TRANSFORM
    transform = {key: value for key, value in stated.items() if key != "image_size"}
    objective = ObjectiveWeights(config["objective"], dict(objective_state)) if "objective" in config else None
    return Weights(config["model"], config["tokenizer"], dict(state), source, transform=transform, objective=objective)


def _kind(state: Mapping[str, Tensor]) -> str:
    for start, what in KINDS.items():
        if any(key.startswith(start) for key in state):
            return f"this is {what}"
    return f"no CLIP model is known by the keys {listed(sorted(state)[:4])}"


def _way_on(state: Mapping[str, Tensor], path: Path) -> str:
    if TRANSFORMERS not in _kind(state):
        return f"name its architecture, pretrained=open_clip:<model name>:{path}"
    if (path.parent / "config.json").is_file():
        return f"its config.json is in the same folder: name the folder {path.parent}"
    return "put it in a folder as model.safetensors or pytorch_model.bin, with its config.json, and name the folder"


def _fetched(repository: str) -> Path:
    """Download the needed files of a hub repository. Raises ValueError with what to do when it cannot be reached."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    silence = hub_silence()
    try:
        with hub_or_cache(repository):
            files = huggingface_hub.list_repo_files(repository)
            return Path(huggingface_hub.snapshot_download(repository, allow_patterns=wanted_files(files)))
    except Exception as error:
        with suppress(LocalEntryNotFoundError):  # fetched before, and no network now
            return Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
        reason = silence or (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"{repository} is not a local file or folder, and on the Hugging Face hub it cannot be reached: {reason}. "
            "Check the name, log in (hf auth login), or download it and name the folder"
        ) from error


def wanted_files(files: list[str]) -> list[str]:
    """Configs and tokenizers, and the weights in one format only: open_clip's before transformers', safetensors first."""
    small = [f for f in files if "/" not in f and f.endswith((".json", ".txt", ".model"))]
    for stem in ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model"):
        for suffix in (".safetensors", ".bin"):
            found = [f for f in files if f.startswith(stem) and f.endswith(suffix)]
            if found:
                return small + found
    return small
