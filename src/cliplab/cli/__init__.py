"""The command: read the arguments, compose the config, and start the job. Nothing heavy is imported before that."""

import os
import signal
import sys
from typing import TYPE_CHECKING

from cliplab.signals import StopRequest, end_with, signalled, status_told

if TYPE_CHECKING:
    from cliplab.cli.arguments import Arguments


def main(script: str | None = None) -> None:
    """The entry point of ``python run.py``, which passes its own path, of ``cliplab`` and of ``python -m cliplab``.

    From its first line on, a signal ends the command with its status and one line.
    """
    request = StopRequest()
    try:
        request.listen()  # SIGTERM ends a command as Ctrl-C does
        status = _run(script)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:  # a job of a sweep tells the status it would have ended with
        status = _stopped(status_told(stop, request.status))
    except BrokenPipeError:  # the reader of the output, such as head, has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception:
        if not request.number:
            raise
        status = _stopped(request.status)  # the error is a consequence of the signal
    finally:
        request.leave()
    if status:
        sys.exit(status)


def _stopped(status: int) -> int:
    print(f"stopped by {signal.Signals(status - 128).name}", file=sys.stderr)
    return status


def _run(script: str | None) -> int:
    """Answer a shell's completion, or run the command. Returns the exit status."""
    from cliplab.cli import completion, places
    from cliplab.cli.arguments import UsageError, read_arguments
    from cliplab.program import COMMAND_VARIABLE, SWEEP_JOB, started_by

    waiting = os.environ.get(SWEEP_JOB)
    if waiting is None:
        os.environ[COMMAND_VARIABLE] = started_by(sys.argv[0])
    os.environ.setdefault("CLIPLAB_ROOT", str(places.project_root(script)))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    asked = completion.asked_of(sys.argv[1:])
    if asked is not None:
        completion.print_answer(*asked)
        return 0
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors are raised, and not printed by Hydra
    if waiting is not None:
        end_with(int(waiting))
    try:
        return _command(read_arguments(sys.argv[1:]))
    except UsageError as error:
        sys.exit(f"error: {error}")


def _command(arguments: "Arguments") -> int:
    """Run the command. Returns the exit status."""
    if arguments.flags.get("help"):
        from cliplab.cli.help import help_text

        print(help_text(arguments))
        return 0
    if arguments.flags.get("version"):
        from importlib.metadata import version

        print(f"cliplab {version('cliplab')}")
        return 0
    from cliplab.cli.grammar import check_of_a_sweep, check_typed
    from cliplab.program import SWEEP_JOB

    multirun = bool(arguments.flags.get("multirun"))
    if not arguments.flags.get("shell_completion"):
        check_typed(arguments.overrides, multirun=multirun)
        if not (multirun or arguments.shows_only or SWEEP_JOB in os.environ):
            check_of_a_sweep(arguments.overrides)
    if "task=runs" in arguments.overrides:
        from cliplab.cli import naming

        arguments = arguments.replaced([*map(naming.experiment_as_name, arguments.overrides)])
    if any(o.startswith("resume=") for o in arguments.overrides):
        from cliplab.cli.resume import resumed

        arguments = resumed(arguments)
    return _hydra(arguments)


def _hydra(arguments: "Arguments") -> int:
    """Compose the config and run the job, or the jobs of a multirun. Returns the exit status."""
    from cliplab.cli import composition
    from cliplab.cli.job import run_job
    from cliplab.cli.mistakes import explain
    from cliplab.cli.sweep import NoteSweep, left_to_jobs, sweep_status

    sys.argv[1:] = arguments.argv()
    error: BaseException | None = None
    try:
        composition.start(arguments, run_job)
    except (Exception, KeyboardInterrupt) as raised:
        error = raised
    left = left_to_jobs(error, arguments) if arguments.flags.get("multirun") and not NoteSweep.begun else None
    if left is not None:
        return _hydra(left)
    try:
        if NoteSweep.begun:
            return sweep_status(error)
        if error is not None:
            raise error
    except BrokenPipeError:
        raise
    except Exception as mistake:
        if signalled():  # it came while a library was being imported
            raise KeyboardInterrupt from mistake
        sys.exit(f"config error: {explain(mistake, arguments)}")
    return 0
