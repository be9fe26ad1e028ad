"""``resume=<run>``: a start from that run's own saved config, in that run's own folder."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from cliplab.cli import places
from cliplab.cli.arguments import Arguments
from cliplab.cli.job import is_further_rank
from cliplab.program import hydra_quoted, hydra_unquoted
from cliplab.settings.following import with_followers


def _settle_here(run: Path) -> None:
    """A run that was moved or copied writes into its own folder: the paths in its config are made to name it."""
    from cliplab.settings.config import save_yaml

    file = run / "config.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf8"))
    before = config["paths"]["run"]
    if before == str(run):
        return

    def settled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: settled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [settled(value) for value in node]
        if isinstance(node, str) and (node == before or node.startswith(before + "/")):
            return str(run) + node[len(before) :]
        return node

    save_yaml(file, settled(config))
    print(f"this run was made in {before}; it goes on in {run}")


def resumed(arguments: Arguments) -> Arguments:
    """The arguments by which Hydra composes the run's own config. Exits when there is no run, or a finished one."""
    target = hydra_unquoted(next(o for o in arguments.overrides if o.startswith("resume=")).removeprefix("resume="))
    run = Path(target).expanduser().resolve()
    if not (run / "config.yaml").is_file():
        sys.exit(f"error: resume={target}: there is no config.yaml in that folder; name the folder of a run")
    manifest = run / "manifest.json"
    if manifest.is_file() and json.loads(manifest.read_text())["status"] == "finished":
        print(f"{target} is finished; nothing to do\n{run}")
        sys.exit(0)
    rest = [o for o in arguments.overrides if not o.startswith("resume=")]
    for override in rest:
        key = override.lstrip("+~").split("=")[0]
        if (places.config_dir() / key).is_dir():
            sys.exit(
                f"error: {override}: only values as trainer.devices=2 can change beside resume=, not a whole group"
            )
    _settle_here(run)
    rest = with_followers(yaml.safe_load((run / "config.yaml").read_text(encoding="utf8")), rest)
    if not (run / "checkpoints" / "last.ckpt").is_file() and not is_further_rank():
        print(f"there is no checkpoint in {run} yet: the run starts over")
    place = hydra_quoted(run)
    own = [f"hydra.run.dir={place}", "hydra.output_subdir=null", "hydra/job_logging=none", f"paths.run={place}"]
    return arguments.with_([*own, f"resume={place}", *rest], config_path=str(run), config_name="config")
