"""What all tests share: no network, no cache but their own, one thread."""

import gc
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("CLIPLAB_ROOT", os.getcwd())
# Set by the first process, inherited by pytest's workers and by what tests start
os.environ["CLIPLAB_TEST_CACHE"] = os.environ.get("CLIPLAB_TEST_CACHE") or tempfile.mkdtemp(prefix="cliplab-tests-")
os.environ["HF_HOME"] = os.path.join(os.environ["CLIPLAB_TEST_CACHE"], "huggingface")
os.environ["HF_DATASETS_CACHE"] = os.path.join(os.environ["HF_HOME"], "datasets")
os.environ["HF_HUB_CACHE"] = os.path.join(os.environ["HF_HOME"], "hub")
os.environ["CLIPLAB_CACHE"] = os.path.join(os.environ["CLIPLAB_TEST_CACHE"], "cliplab")

import pytest

gc.disable()  # until all is imported


def pytest_configure(config: pytest.Config) -> None:
    """Only where tests run: the process that hands them out to others needs no torch."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import datasets
    import torch

    from tests.composition import keep_compositions

    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    keep_compositions()


# Their tests are run by one worker, so that one server forks all child processes (tests/processes.py).
WITH_PROCESSES = {
    "tests/end_to_end/test_kill.py",
    "tests/end_to_end/test_checkpoints.py",
    "tests/end_to_end/test_ranks.py",
    "tests/evaluation/test_zero_shot.py",
    "tests/objectives/test_contrastive.py",
    "tests/objectives/test_heads_among_ranks.py",
}


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker gets whole files, since the tests of a file share what takes long to make."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "with processes" if file in WITH_PROCESSES else file

    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


LONG = {  # files of four seconds and more, which -m quick leaves out
    "checkpoints/test_damage.py",
    "checkpoints/test_read.py",
    "checkpoints/test_stated_open_clip.py",
    "checkpoints/test_stated_transformers.py",
    "checkpoints/test_write.py",
    "cli/test_job.py",
    "cli/test_resume_rules.py",
    "configs/test_configs.py",
    "data/test_bad_rows.py",
    "data/test_broken.py",
    "data/test_sources.py",
    "reporting/test_light.py",
    "reporting/test_report.py",
    "sweeps/test_processes.py",
    "training/test_trackers.py",
}


def pytest_unconfigure(config: pytest.Config) -> None:
    """The caches go when the first process ends."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["CLIPLAB_TEST_CACHE"], ignore_errors=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported now stays: it is not looked through for garbage again, and processes that tests fork share it."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)


def browser_programs() -> tuple[str, str] | None:
    """Chromium or Chrome, and its driver, when both and selenium are installed."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome")]
    browser, driver = next((path for path in found if path), None), shutil.which("chromedriver")
    return (browser, driver) if browser and driver and importlib.util.find_spec("selenium") else None


def _is_long(file: Path) -> bool:
    return "end_to_end" in file.parts or "/".join(file.parts[-2:]) in LONG


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``-m quick`` does not import the files that it leaves out."""
    return True if config.getoption("markexpr") == "quick" and _is_long(collection_path) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """``-m quick`` takes all but whole runs, long files and what is marked slow: for while one writes."""
    if not _is_long(item.path) and not any(item.iter_markers("slow")) and not any(item.iter_markers("browser")):
        item.add_marker("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Browser tests run where there is a browser; elsewhere they are deselected, and the summary says so."""
    marked = [item for item in items if item.get_closest_marker("browser")]
    if marked and browser_programs() is None:
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]
    if hasattr(config, "workerinput"):  # whole runs first, so that no worker is left with a long file at the end
        items.sort(key=lambda item: "end_to_end" not in item.path.parts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if browser_programs() is None:
        terminalreporter.write_line(
            "browser tests deselected: they need selenium, chromium and chromedriver "
            "(apt-get install chromium chromium-driver)"
        )
