"""Hydra's compositions are kept: tests compose the same files hundreds of times.

The files' part of a composition takes nearly all of its time. It is made once for each choice of groups, and each caller
gets a copy, on which Hydra itself sets the typed values. Another file, another content or another choice is composed anew.
"""

import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra.core.object_type import ObjectType

Loader = config_loader_impl.ConfigLoaderImpl
DEFAULTS, MERGE = config_loader_impl.create_defaults_list, Loader._compose_config_from_defaults_list
READ = ConfigRepository.load_config
_kept: dict[Any, bytes] = {}


def _files(repo: Any) -> tuple[Any, ...]:
    """Every config file that Hydra may read, with its time and size."""
    found: list[Any] = []
    for source in repo.get_sources():
        found.append((source.scheme(), source.provider, source.path))
        if source.scheme() == "file":
            stats = [(str(file), file.stat()) for file in sorted(Path(source.path).rglob("*.yaml"))]
            found += [(file, stat.st_mtime_ns, stat.st_size) for file, stat in stats]
    return tuple(found)


def _copy_of(key: Any, make: Callable[[], Any]) -> Any:
    if key not in _kept:
        _kept[key] = pickle.dumps(make(), pickle.HIGHEST_PROTOCOL)
    return pickle.loads(_kept[key])


def _defaults_list(repo: Any, config_name: Any, overrides_list: Any, prepend_hydra: bool, skip_missing: bool) -> Any:
    overrides = Overrides(repo=repo, overrides_list=overrides_list)
    values = {id(override) for override in overrides.config_overrides}
    groups = tuple(override.input_line for override in overrides_list if id(override) not in values)

    def made() -> tuple[Any, Any, Any]:
        found = DEFAULTS(repo, config_name, overrides_list, prepend_hydra, skip_missing)
        return found.defaults, found.defaults_tree, found.overrides.known_choices

    key = (_files(repo), config_name, groups, prepend_hydra, skip_missing)
    defaults, tree, overrides.known_choices = _copy_of(key, made)
    return DefaultsList(
        defaults=defaults, defaults_tree=tree, config_overrides=overrides.config_overrides, overrides=overrides
    )


def _merged(self: Any, defaults: Any, repo: Any) -> Any:
    return _copy_of((_files(repo), repr(defaults)), functools.partial(MERGE, self, defaults, repo))


def _read(self: ConfigRepository, config_path: str) -> Any:
    source = self._find_object_source(config_path, ObjectType.CONFIG)
    if source is None:
        return READ(self, config_path)
    key: tuple[Any, ...] = (source.scheme(), source.provider, source.path, config_path)
    if source.scheme() == "file":
        stat = (Path(source.path) / source._normalize_file_name(config_path)).stat()
        key += (stat.st_mtime_ns, stat.st_size)
    return _copy_of(key, functools.partial(READ, self, config_path))


def keep_compositions(keep: bool = True) -> None:
    """From now on, or no longer."""
    config_loader_impl.create_defaults_list = _defaults_list if keep else DEFAULTS
    Loader._compose_config_from_defaults_list = _merged if keep else MERGE  # type: ignore[method-assign]
    ConfigRepository.load_config = _read if keep else READ  # type: ignore[method-assign]
