"""A task for the processes of a sweep: it imports nothing heavy, works in steps and goes on where it stopped."""

import os
import signal
import time

from cliplab.settings.config import save_yaml
from cliplab.settings.job import Job, Outcome

STEPS = 8


def run(job: Job) -> Outcome:
    """Eight steps, each a line of ``steps``. Seed 2 is killed as by a system that is out of memory. The figure is the seed
    with the number of steps as decimals."""
    job.run_dir.mkdir(parents=True, exist_ok=True)
    save_yaml(job.run_dir / "composed.yaml", job.config)
    save_yaml(job.run_dir / "config.yaml", job.config)
    file = job.run_dir / "steps"
    seen = os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES"), len(os.sched_getaffinity(0))
    done = len(file.read_text().splitlines()) if file.is_file() else 0
    for step in range(done, STEPS):
        if job.config["seed"] == 2 and step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(job.config["trainer"]["limit_train_batches"] or 0)
        with file.open("a") as out:
            out.write(f"{step} {os.getppid()} {seen}\n")
    return Outcome(None, job.config["seed"] + 0.01 * len(file.read_text().splitlines()))
