"""The learning-rate range test of a config: its model, objective, optimizer and data, no evaluation, no checkpoint."""

import math
from typing import Any

from cliplab.assembly.process import quiet
from cliplab.assembly.trainer import build_trainer
from cliplab.assembly.training_checks import check_device, check_parts, is_first_rank
from cliplab.assembly.training_parts import build_parts
from cliplab.program import command_line
from cliplab.reporting.lr_find import write_range_test
from cliplab.reporting.results import write_json
from cliplab.runs.folder import save_config
from cliplab.settings.job import Job, Outcome
from cliplab.signals import listening
from cliplab.training.range_test import RangeTest, suggest


def _without_evaluation(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a training run of so many steps, in which nothing is evaluated, saved or logged."""
    steps = config["task"]["steps"]
    trainer = {**config["trainer"], "max_epochs": -1, "max_steps": steps, "limit_train_batches": None}
    trainer |= {"enable_checkpointing": False}
    data = {**config["data"], "validation": None, "max_steps": steps}
    scheduler = {**config["scheduler"], "warmup_steps": 0}
    return {**config, "trainer": trainer, "data": data, "scheduler": scheduler, "zeroshot": {}, "callbacks": {}}


def find_rate(job: Job) -> Outcome:
    """Train with a rising rate and say which rate fits. Returns the path of the page, None on a further rank."""
    quiet()
    config = _without_evaluation(job.config)
    check_device(config["trainer"])
    check_parts(config)
    task = config["task"]
    test = RangeTest(task["low"], task["high"], task["steps"])
    with listening() as request:
        parts = build_parts(config, None, request)
        trainer = build_trainer(config, [test], [], job.run_dir, module=parts.module)
        trainer.fit(parts.module, datamodule=parts.datamodule)
    if not is_first_rank():
        return Outcome(None)
    rates = test.rates[: len(test.losses)]
    found = suggest(rates, test.losses)
    save_config(job.config, job)
    losses = [loss if math.isfinite(loss) else None for loss in test.losses]
    write_json(job.run_dir / "lr_find.json", {**found._asdict(), "rates": rates, "losses": losses})
    if found.rate is None or found.lowest is None:
        words = f"no rate can be suggested: {found.why}"
    else:
        words = (
            f"suggested: {command_line(f'optimizer.lr={found.rate:.2g}')}, where the loss falls fastest; it is lowest at "
            f"{found.lowest:.2g} and the configured rate is {config['optimizer']['lr']:g}"
        )
    print(words)
    marks = [] if found.rate is None else [("suggested", found.rate)]
    marks.append(("configured", float(config["optimizer"]["lr"])))
    return Outcome(write_range_test(job.run_dir, config["name"], rates, test.losses, marks, words))
