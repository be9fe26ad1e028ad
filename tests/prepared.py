"""What the server of child processes has done before it forks them: everything is imported, and the command has been run
once up to its task, so that the plug-ins are found, the config is composed and its classes are read."""

import gc
import sys
import tempfile

import pytest

import cliplab.assembly.pretraining
import cliplab.data.datamodule
import cliplab.tasks.train
import cliplab.training.loggers  # noqa: F401
from cliplab.settings.job import Outcome
from tests.commands import exit_status
from tests.composition import keep_compositions

GROUPS = ["data=local_parquet", "data.path=.", "zeroshot=folder", "objective=clip", "trainer=ddp_sim"]

keep_compositions()
with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
    patch.setenv("CLIPLAB_ROOT", folder)
    patch.setattr("cliplab.settings.verbs.run_verb", lambda job: Outcome(None))
    failed = exit_status(patch, *GROUPS, "zeroshot.folder.dataset.path=.", "~callbacks.progress")
    if failed:
        print(f"the command of {__name__} failed: its children will take longer", file=sys.stderr)
gc.freeze()
