"""Child processes that have everything imported already, so that a test with ranks does not wait for imports."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# The server looks for the tests on its own path, whatever folder it is started in.
ROOT = str(Path(__file__).parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
# Children are forked from a server process. It never trains: autograd does not survive a fork.
CHILDREN = multiprocessing.get_context("forkserver")
FORKS = multiprocessing.get_context("fork")
CHILDREN.set_forkserver_preload(["tests.prepared"])


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Begin ``work(*arguments)`` in a child process. ``work`` is a function of a module, by name.

    A child of the server forks its own children. It has no server, and one of its own would import everything again.
    """
    context = FORKS if multiprocessing.parent_process() else CHILDREN
    child: BaseProcess = context.Process(target=work, args=arguments)  # type: ignore[attr-defined]
    child.start()
    return child


def status(child: BaseProcess) -> int | None:
    """The exit status of a child once it has ended: 0, or minus the number of the signal that ended it."""
    child.join()
    return child.exitcode


def run_ranks(work: Callable[..., None], ranks: int, *arguments: Any) -> None:
    """Run ``work(rank, ranks, *arguments)`` in so many processes at once. All must end well."""
    children = [start(work, rank, ranks, *arguments) for rank in range(ranks)]
    assert [status(child) for child in children] == [0] * ranks
