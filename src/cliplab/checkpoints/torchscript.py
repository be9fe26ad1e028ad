"""Read tensors from a TorchScript archive without running anything in it."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


BROKEN = (zipfile.BadZipFile, NotImplementedError, OSError, EOFError)  # what a damaged zip raises


class Part:
    """A module of the archive: only its attributes, no code."""


def is_torchscript(path: Path) -> bool:
    """A zip with a code folder, which ``torch.save`` does not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except BROKEN:
        return False


def _first(value: Any, *_: Any) -> Any:
    return value


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


class _Reader(pickle.Unpickler):
    """Builds tensors, plain containers and empty parts. It refuses any other name in the pickle."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self.archive, self.folder = archive, folder
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return type(name, (Part,), {})
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch.jit._pickle":  # typed lists and dicts: the value comes first
            return _first
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, _ = pid
        if key not in self.storages:
            data = bytearray(self.archive.read(f"{self.folder}/data/{key}"))
            self.storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.storages[key]


def read_torchscript(path: Path) -> tuple[dict[str, Tensor], set[str]]:
    """The state dict of an archive and the names of its module classes.

    The archive's code is never compiled or run: its one pickle is read by an unpickler that builds tensors and empty
    parts only. Raises ValueError for anything else in it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            folder = next((n for n in archive.namelist() if n.endswith("/data.pkl")), "/data.pkl")
            root = _Reader(archive, folder.removesuffix("/data.pkl")).load()
    except BROKEN as error:
        raise ValueError(f"{path}: this TorchScript archive is damaged ({error})") from error
    except (pickle.UnpicklingError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: this TorchScript archive needs more than tensors to load ({error})") from error
    state: dict[str, Tensor] = {}
    classes: set[str] = set()

    def walk(part: Part, prefix: str) -> None:
        classes.add(type(part).__name__)
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                state[prefix + name] = value
            elif isinstance(value, Part):
                walk(value, f"{prefix}{name}.")

    if not isinstance(root, Part):
        raise ValueError(f"{path}: this TorchScript archive holds no model but a {type(root).__name__}")
    walk(root, "")
    return state, classes
