"""Read weight files of every kind without running code that they may contain."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cliplab.checkpoints.earlier import current
from cliplab.checkpoints.run_checkpoint import model_state, objective_state, saved_state, standalone_config
from cliplab.checkpoints.spec import no_average
from cliplab.checkpoints.stated import read_json
from cliplab.checkpoints.torchscript import is_torchscript, read_torchscript
from cliplab.files import describe_stand_in
from cliplab.text import listed

WEIGHTS_OF_OTHERS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
MOST_NESTED = 4  # levels of dicts around a state dict
# Keys under which programs save a model's state dict among other things; averaged weights come last
HOLDERS = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params",
    "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema",
)  # fmt: skip
# Parts of names that torch.compile, FSDP and activation checkpointing insert, and prefixes of models around a CLIP
ANYWHERE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
BEFORE = ("module.", "model.", "clip_model.", "clip.", "net.", "ema_model.", "ema.", "_forward_module.")


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and the header's metadata."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except SafetensorError as error:
        raise ValueError(f"{path}: this is not a whole safetensors file ({error})") from error


def write_safetensors(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    save_file({key: value.detach().contiguous().clone() for key, value in state.items()}, path, metadata=metadata)


def read_pickled(path: Path) -> Any:
    """Read what ``torch.save`` wrote, with ``weights_only``. Raises ValueError with the reason when that fails."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it asks for {found[1]}" if found else "it is not a file of weights"
        raise ValueError(
            f"{path}: refused, since loading it could run any code ({reason}); save its state dict as safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        text = next(iter(str(error).splitlines()), "")
        reason = text if re.search(r"[a-z]", text) else type(error).__name__
        raise ValueError(
            f"{path}: this is not a whole file of weights ({reason}); download or copy it again"
        ) from error


def plain_state(saved: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in ``saved``: the whole of it, or nested under keys of ``HOLDERS``, at most ``MOST_NESTED`` deep.

    Raises ValueError when there is none.
    """
    for _ in range(MOST_NESTED):
        held = [key for key in HOLDERS if isinstance(saved, dict) and isinstance(saved.get(key), dict)]
        if not held or any(isinstance(value, Tensor) and value.ndim for value in saved.values()):
            break
        saved = saved[held[0]]
    if not isinstance(saved, dict) or not saved or not any(isinstance(v, Tensor) for v in saved.values()):
        raise ValueError(f"{path}: there is no state dict in it")
    return {str(key): value for key, value in saved.items() if isinstance(value, Tensor)}


def without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the prefixes of compiling, distributing, averaging and modules around a model."""
    clean = {key: value for key, value in state.items() if key != "n_averaged"}  # AveragedModel's counter
    for wrapper in ANYWHERE:
        clean = {key.replace(wrapper, ""): value for key, value in clean.items()}
    while clean and (prefix := next((p for p in BEFORE if all(key.startswith(p) for key in clean)), None)):
        clean = {key.removeprefix(prefix): value for key, value in clean.items()}
    return clean


def _check_finite(state: dict[str, Tensor], path: Path) -> None:
    """Raises ValueError naming the tensors that hold NaN or infinity. A stored attention mask may hold them."""
    bad = [
        key
        for key, value in state.items()
        if value.is_floating_point() and not key.endswith("attn_mask") and not torch.isfinite(value).all()
    ]
    if bad:
        raise ValueError(
            f"{path}: weights are NaN or infinity in {listed(bad)}; the training that wrote them had diverged, or the file "
            "is damaged: take an earlier checkpoint, or fetch it again"
        )


def read_file(path: Path, weights: str = "raw") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A state dict under the file's own names, in float32, and other facts: ``classes`` of a TorchScript archive, and
    ``cliplab`` (configs) and ``objective`` (its state dict) of our own files. Raises ValueError when the file cannot be
    read strictly. ``weights="ema"`` takes the moving average that our own files may hold."""
    facts: dict[str, Any] = {}
    own = False
    if stand_in := describe_stand_in(path):
        raise ValueError(f"{path}: this is not a file of weights: {stand_in}")
    if path.suffix == ".json":
        raise ValueError(f"{path}: this is not a file of weights; name the folder it is in: {path.parent}")
    if path.suffix == ".safetensors":
        state, metadata = read_safetensors(path)
        if "cliplab" in metadata:
            facts["cliplab"] = current(json.loads(metadata["cliplab"]))
    elif is_torchscript(path):
        state, facts["classes"] = read_torchscript(path)
    else:
        saved = read_pickled(path)
        if isinstance(saved, dict) and "cliplab_config" in saved:
            facts["cliplab"] = standalone_config(current(saved["cliplab_config"]), saved)
        own = "cliplab" in facts
        state = dict(saved_state(saved, weights, path)) if own else plain_state(saved, path)
        if own:
            facts["objective"] = objective_state(state)
            state = model_state(state)
    if weights == "ema" and not own:
        raise ValueError(no_average(path))
    if "cliplab" not in facts:
        state = without_wrappers(state)
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    _check_finite(state, path)
    return state, facts


def _weight_map(index: Path) -> dict[str, str]:
    """The name of the shard that holds each tensor. Raises ValueError naming the index when it has no such map."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index}: it has no weight_map from tensors to files")
    return names


def read_folder_state(folder: Path, stem: str) -> dict[str, Tensor]:
    """The state dict in a folder with ``<stem>.safetensors`` or ``.bin``, as one file or as shards with an index.

    Raises ValueError when there is neither, or when a shard is missing.
    """
    names = {".safetensors": stem, ".bin": "pytorch_model" if stem == "model" else stem}
    for suffix, name in names.items():
        single, index = folder / f"{name}{suffix}", folder / f"{name}{suffix}.index.json"
        if single.is_file():
            return read_file(single)[0]
        if index.is_file():
            shards = sorted(set(_weight_map(index).values()))
            missing = [s for s in shards if not (folder / s).is_file()]
            if missing:
                raise ValueError(f"{index}: it names files that are missing: {', '.join(missing)}")
            return {key: value for shard in shards for key, value in read_file(folder / shard)[0].items()}
    others = sorted(file.name for file in folder.iterdir() if file.suffix in WEIGHTS_OF_OTHERS)
    found = f"; it has {listed(others)}: save or convert it under one of these names" if others else "; fetch it again"
    raise ValueError(f"{folder}: there is neither {stem}.safetensors nor {names['.bin']}.bin in this folder{found}")
