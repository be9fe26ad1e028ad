"""One file for each layout of local files, with its class in ``READER``. See ``cliplab.data.layout.Reader``."""

import functools
import importlib
import pkgutil

from cliplab.data.layout import Reader


@functools.cache
def readers() -> list[type[Reader]]:
    """The readers of this folder, by precedence."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return sorted((module.READER for module in modules), key=lambda reader: reader.precedence)


def reader_of(file_name: str) -> type[Reader] | None:
    """The reader for a file, by the extension of its name in any case. None when there is none."""
    name = file_name.lower()
    fitting = [(len(suffix), reader) for reader in readers() for suffix in reader.suffixes if name.endswith(suffix)]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def suffixes() -> list[str]:
    """The extensions of files that have a reader."""
    return [suffix for reader in readers() for suffix in reader.suffixes]
