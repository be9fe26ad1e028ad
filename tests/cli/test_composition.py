"""A job composes its config once, and Hydra's ways to start jobs and to show configs stay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.experimental.callback import Callback
from hydra.types import RunMode

from cliplab.cli import composition
from cliplab.cli.arguments import read_arguments

CONFIG = """\
hydra:
  run: {dir: "${root}/one"}
  sweep: {dir: "${root}/many"}
  output_subdir: null
  callbacks: {mine: {_target_: tests.cli.test_composition.Recording}}
root: ???
seed: 1
"""


class Recording(Callback):
    events: list[str] = []

    def on_run_start(self, **_: Any) -> None:
        self.events.append("run start")

    def on_job_start(self, **_: Any) -> None:
        self.events.append("job start")
        raise RuntimeError("a callback that fails")

    def on_job_end(self, **_: Any) -> None:
        self.events.append("job end")

    def on_run_end(self, **_: Any) -> None:
        self.events.append("run end")

    def on_multirun_end(self, **_: Any) -> None:
        self.events.append("multirun end")


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Starts a small config of its own and returns the seeds of the jobs."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    Recording.events.clear()

    def run(*argv: str) -> list[int]:
        seeds: list[int] = []
        arguments = read_arguments([f"--config-path={tmp_path}", f"root={tmp_path}", *argv])
        composition.start(arguments, lambda cfg: seeds.append(cfg.seed))
        return seeds

    return run


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[RunMode]:
    """Grows by the mode of every config that is composed."""
    modes: list[RunMode] = []
    with initialize_config_dir(str(Path(__file__).parent), version_base="1.3"):
        kind = type(GlobalHydra.instance().config_loader())
    original = kind.load_configuration

    def counting(self: Any, config_name: str, overrides: list[str], run_mode: RunMode, **others: Any) -> Any:
        modes.append(run_mode)
        return original(self, config_name, overrides, run_mode, **others)

    monkeypatch.setattr(kind, "load_configuration", counting)
    return modes


@pytest.mark.filterwarnings("ignore:Callback Recording")
def test_a_job_composes_once_and_its_callbacks_are_called(
    start: Callable[..., list[int]], composed: list[RunMode], tmp_path: Path
) -> None:
    assert start("seed=3") == [3]
    assert composed == [RunMode.RUN]
    assert Recording.events == ["run start", "job start", "job end", "run end"]
    assert (tmp_path / "one").is_dir()


@pytest.mark.filterwarnings("ignore:Callback Recording")
@pytest.mark.parametrize("flag", ["-m", "hydra.mode=MULTIRUN"])
def test_a_multirun_composes_once_before_its_jobs(
    start: Callable[..., list[int]], composed: list[RunMode], flag: str, tmp_path: Path
) -> None:
    assert start(flag, "seed=3,4") == [3, 4]
    assert composed == [RunMode.MULTIRUN, *[RunMode.RUN] * 4]  # Hydra's sweeper composes each job once more to check it
    assert Recording.events[-1] == "multirun end"
    assert (tmp_path / "many" / "1").is_dir()


def test_a_mode_that_stands_in_a_file_is_kept(start: Callable[..., list[int]], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "hydra: {mode: MULTIRUN, output_subdir: null, sweep: {dir: '${root}'}, sweeper: {params: {seed: '5,6'}}}\n"
        "root: ???\nseed: 1\n"
    )
    assert start() == [5, 6]
    assert start("seed=7,8") == [7, 8]


def test_several_values_without_m_raise_hydras_error(start: Callable[..., list[int]]) -> None:
    with pytest.raises(Exception, match="Ambiguous value for argument 'seed=3,4'"):
        start("seed=3,4")


def test_what_a_task_raises_is_raised(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")

    def task(cfg: Any) -> None:
        raise ZeroDivisionError("the task's own")

    with pytest.raises(ZeroDivisionError, match="the task's own"):
        composition.start(read_arguments([f"--config-path={tmp_path}", f"hydra.run.dir={tmp_path}/one"]), task)
