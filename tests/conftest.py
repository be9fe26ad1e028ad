"""What all tests share: no network, no cache but their own, one thread."""

import importlib.util
import os
import shutil
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("CLIPLAB_ROOT", os.getcwd())
# Set by the first process, inherited by pytest's workers and by what tests start
os.environ["CLIPLAB_TEST_CACHE"] = os.environ.get("CLIPLAB_TEST_CACHE") or tempfile.mkdtemp(prefix="cliplab-tests-")
os.environ["HF_HOME"] = os.path.join(os.environ["CLIPLAB_TEST_CACHE"], "huggingface")
os.environ["HF_DATASETS_CACHE"] = os.path.join(os.environ["HF_HOME"], "datasets")
os.environ["HF_HUB_CACHE"] = os.path.join(os.environ["HF_HOME"], "hub")
os.environ["CLIPLAB_CACHE"] = os.path.join(os.environ["CLIPLAB_TEST_CACHE"], "cliplab")

import datasets
import pytest
import torch

from tests.composition import keep_compositions

datasets.disable_progress_bars()
torch.set_num_threads(1)
keep_compositions()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The caches go when the first process ends."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["CLIPLAB_TEST_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def browser_programs() -> tuple[str, str] | None:
    """Chromium or Chrome, and its driver, when both and selenium are installed."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome")]
    browser, driver = next((path for path in found if path), None), shutil.which("chromedriver")
    return (browser, driver) if browser and driver and importlib.util.find_spec("selenium") else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """``-m quick`` takes all but whole runs and what is marked slow: for while one writes."""
    if (
        "end_to_end" not in item.path.parts
        and not any(item.iter_markers("slow"))
        and not any(item.iter_markers("browser"))
    ):
        item.add_marker("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Browser tests run where there is a browser; elsewhere they are deselected, and the summary says so."""
    marked = [item for item in items if item.get_closest_marker("browser")]
    if marked and browser_programs() is None:
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if browser_programs() is None:
        terminalreporter.write_line(
            "browser tests deselected: they need selenium, chromium and chromedriver "
            "(apt-get install chromium chromium-driver)"
        )
