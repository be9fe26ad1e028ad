"""Weight files of every kind, read without running what they may contain."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cliplab.checkpoints.own import model_state, objective_state, self_contained
from cliplab.checkpoints.torchscript import is_torchscript, read_torchscript


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and the header's metadata."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except SafetensorError as error:
        raise ValueError(f"{path}: this is no whole safetensors file ({error})") from error


def write_safetensors(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    save_file({key: value.detach().contiguous().clone() for key, value in state.items()}, path, metadata=metadata)


def read_pickled(path: Path) -> Any:
    """What ``torch.save`` wrote, by weights_only. Raises ValueError with the reason when that is not enough."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it asks for {found[1]}" if found else "it is no file of weights"
        raise ValueError(
            f"{path}: refused, since loading it could run any code ({reason}); save its state dict as safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise ValueError(
            f"{path}: this is no whole file of weights ({(str(error) or type(error).__name__).splitlines()[0]})"
        ) from error


def plain_state(saved: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what was saved: itself, or under ``state_dict`` or ``model``; ``module.`` of DDP falls off."""
    for key in ("state_dict", "model"):
        if isinstance(saved, dict) and isinstance(saved.get(key), dict):
            saved = saved[key]
    if not isinstance(saved, dict) or not saved or not any(isinstance(v, Tensor) for v in saved.values()):
        raise ValueError(f"{path}: there is no state dict in it")
    tensors = {key: value for key, value in saved.items() if isinstance(value, Tensor)}
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A state dict under the file's own names, in float32, and what else the file says: ``classes`` of a TorchScript
    archive, ``cliplab`` (configs) and ``objective`` (its state dict) of a file of ours. Raises ValueError when the file
    cannot be read strictly."""
    facts: dict[str, Any] = {}
    if path.suffix == ".safetensors":
        state, metadata = read_safetensors(path)
        if "cliplab" in metadata:
            facts["cliplab"] = json.loads(metadata["cliplab"])
    elif is_torchscript(path):
        state, facts["classes"] = read_torchscript(path)
    else:
        saved = read_pickled(path)
        if isinstance(saved, dict) and "cliplab_config" in saved:
            facts["cliplab"] = self_contained(saved["cliplab_config"], saved)
        state = plain_state(saved, path)
        if "cliplab" in facts:
            facts["objective"] = objective_state(state)
            state = model_state(state)
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, facts


def read_folder_state(folder: Path, stem: str) -> dict[str, Tensor]:
    """The state dict of a folder of ``<stem>.safetensors`` or ``.bin``, whole or in shards with an index.

    Raises ValueError when there is neither, or when a shard is missing.
    """
    names = {".safetensors": stem, ".bin": "pytorch_model" if stem == "model" else stem}
    for suffix, name in names.items():
        whole, index = folder / f"{name}{suffix}", folder / f"{name}{suffix}.index.json"
        if whole.is_file():
            return read_file(whole)[0]
        if index.is_file():
            shards = sorted(set(json.loads(index.read_text(encoding="utf8"))["weight_map"].values()))
            missing = [s for s in shards if not (folder / s).is_file()]
            if missing:
                raise ValueError(f"{folder}: {index.name} names {', '.join(missing)}, which is not there")
            return {key: value for shard in shards for key, value in read_file(folder / shard)[0].items()}
    raise ValueError(f"{folder}: there is neither {stem}.safetensors nor {names['.bin']}.bin in this folder")
