"""--help comes from the comments of the configs."""

import pytest

from cliplab.cli import places
from cliplab.cli.arguments import UsageError, read_arguments
from cliplab.cli.help import header, help_text, settings
from cliplab.cli.places import config_dir

TASKS = places.choices(config_dir() / "task")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_tells_what_it_does_how_it_is_typed_and_its_options(task: str) -> None:
    told = help_text(read_arguments([f"task={task}", "--help"]))
    what, usage, *_ = header(config_dir() / "task" / f"{task}.yaml")
    assert told.startswith(f"task={task}: {what}")
    assert usage.startswith(f"task={task} ")
    assert usage in told
    for setting in settings(config_dir() / "task" / f"{task}.yaml", "task."):
        if setting.key not in ("task.name", "task.function"):
            assert f"{setting.key}={setting.value}" in told
            assert setting.comment in told
    assert what in help_text(read_arguments(["--help"]))


def test_keys_that_a_task_reads_are_explained() -> None:
    told = help_text(read_arguments(["task=embed", "--help"]))
    for key in ("images=null", "run=null", "ckpt=null", "pretrained=null", "format=null", "out=null"):
        assert f"  {key} " in told
    assert "query=null" not in told
    assert "task.rows_per_part=1024  a stopped job loses at most so many rows" in told


def test_any_choice_of_a_group_tells_its_options() -> None:
    told = help_text(read_arguments(["optimizer=adamw", "trainer=default", "--help"]))
    assert "optimizer.weight_decay=${adamw_weight_decay}  of matrices" in told
    assert "trainer.max_steps=-1" in told


def test_nested_keys_and_comments_of_a_config(tmp_path: object) -> None:
    found = {s.key: s for s in settings(config_dir() / "data" / "_module.yaml", "data.")}
    assert found["data.train_transform.flip"].value == "0.0"
    assert found["data.train_transform.flip"].comment == "probability"
    assert "data.train_transform" not in found
    assert found["data.train_transform.scale"].value == "[0.9, 1.0]"


def test_a_mistyped_choice_is_told_and_a_bare_task_is_understood() -> None:
    with pytest.raises(UsageError, match=r"^task: there is no choice 'emebd'; did you mean 'embed'\? the choices are "):
        help_text(read_arguments(["task=emebd", "--help"]))
    with pytest.raises(UsageError, match=r"^optimizer: there is no choice 'foo'; the choices are adafactor, "):
        help_text(read_arguments(["optimizer=foo", "--help"]))
    assert help_text(read_arguments(["embed", "--help"])) == help_text(read_arguments(["task=embed", "--help"]))
    both = help_text(read_arguments(["task=embed,search", "--help"]))
    assert both == help_text(read_arguments(["task=embed", "task=search", "--help"]))
    assert "task=embed: " in both
    assert "\ntask=search: " in both
    with pytest.raises(UsageError, match=r"^task: there is no choice 'serch'; did you mean 'search'\?"):
        help_text(read_arguments(["task=embed,serch", "--help"]))
    assert help_text(read_arguments(["experiment=null", "--help"])).startswith("cliplab: ")
