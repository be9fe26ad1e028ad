"""Where an Optuna study is kept: a journal file, or a database."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TRIAL = "trial.json"  # in a job's folder: which trial of which study it is
ADDRESS = "CLIPLAB_STUDY"  # in the environment of a job: the address of the study's database, which may hold a password


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's lines for each trial and its warnings about what is experimental."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def open_storage(storage: str) -> Any:
    """The storage of an address as ``sqlite:///study.db`` or ``postgresql://…``, or else of a journal file by its path.

    A journal survives a kill at any moment. Its lock is a link beside it, which works on network file systems too; of a
    process that was killed it is taken over after 30 seconds.
    """
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if "://" in storage:
        waits = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
        return RDBStorage(storage, engine_kwargs=waits)
    path = Path(storage).absolute()  # the lock's link is looked up from its own folder
    path.parent.mkdir(parents=True, exist_ok=True)
    backend = JournalFileBackend(str(path))
    _mend(path, backend)
    return JournalStorage(backend)


def _mend(path: Path, backend: Any) -> None:
    """Cut off a last line that a full disk or a power cut has left incomplete: what is appended to it could not be read."""
    from optuna.storages.journal._file import get_lock_file

    if path.read_bytes()[-1:] in (b"", b"\n"):
        return
    with get_lock_file(backend._lock):
        content = path.read_bytes()
        if content[-1:] not in (b"", b"\n"):
            with path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
