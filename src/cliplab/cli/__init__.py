"""The command: find the configs, compose, check, and hand over to one task. Nothing heavy is imported before that."""

import contextlib
import os
import re
import secrets
import sys
import traceback
from pathlib import Path
from typing import Any

HELP = """\
cliplab: contrastive image-text pre-training, zero-shot evaluation, reports.

  python run.py                                   train on the embedded emoji data and write a report
  python run.py experiment=vit_b32                CLIP ViT-B/32 as in the paper
  python run.py experiment=vit_b32 data=emoji zeroshot=emoji trainer=cpu data.batch_size=32 trainer.max_steps=20
  python run.py optimizer.lr=3e-4 seed=2          any value of the config can be overridden
  python run.py -m experiment=emoji optimizer.lr=3e-4,1e-3 seed=1,2      multirun sweep and leaderboard
  python run.py -m experiment=emoji sweep=optuna  search instead of a grid
  python run.py resume=logs/train/emoji/<run>     go on where it stopped, in the same folder
  python run.py task=evaluate ckpt=<run>/checkpoints/last.ckpt
  python run.py task=compare run=[<run>,<run>]    runs beside each other, with paired tests; also ckpt=[<a>,<b>] above
  python run.py task=report run=<run>             rebuild the report from the run folder
  python run.py task=embed run=<run> images=<folder or data set>      a table of embeddings
  python run.py task=classify run=<run> images=<folder> labels=[cat,dog]
  python run.py task=search run=<run> images=<folder> query="a red car"
  python run.py task=export run=<run> format=huggingface              or open_clip, openai, onnx, safetensors
  python run.py --cfg job                         print the config and stop

Groups (group=choice):
"""


def config_dir() -> Path:
    """The configs packed in an installed wheel, else the repository's."""
    packaged = Path(__file__).parents[1] / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"


def project_root() -> Path:
    """Where logs/ lies: the clone when there is one, else the working directory."""
    clone = Path(__file__).parents[3]
    return clone if (clone / "run.py").is_file() else Path.cwd()


def _print_help() -> None:
    print(HELP)
    for folder in sorted(p for p in config_dir().rglob("*") if p.is_dir()):
        choices = _choices(folder)
        if choices and folder.name not in ("hydra", "paths"):
            print(f"  {folder.relative_to(config_dir()).as_posix()}: {' '.join(choices)}")
    print("\nShow a group's values: python run.py --cfg job --package <group>")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _composition_error(error: Exception, overrides: list[str]) -> str:
    """Hydra's words in one line, with a nearby key or choice."""
    from cliplab.settings.config import did_you_mean, typed_keys

    text = _one_line(error)
    keys = typed_keys(overrides)
    key = max((key for key in keys if key in text), key=len, default="")
    if not key:
        return text
    if "not in struct" in text or "Could not override" in text:
        inner = re.search(r"full_key: (\S+)", str(error.__cause__))
        return _unknown_key(inner[1] if inner else key, overrides)
    value = next((o.split("=", 1)[1] for o in overrides if o.startswith(key + "=")), "")
    choices = _choices(config_dir() / key)
    value = next((v for v in value.strip("[]").replace(" ", "").split(",") if v not in choices), "")  # of a list too
    if choices and value:
        hint = did_you_mean(value, choices) or ";"
        return f"{key}: no choice {value!r}{hint} there are {', '.join(choices)}"
    return text


def _unknown_key(key: str, overrides: list[str]) -> str:
    """With a neighbour in the config as its groups were chosen, or else how a key is added."""
    from cliplab.settings.config import did_you_mean

    if key.startswith(("data.train.sources.", "data.train.weights.")):
        return (
            f'{key}: this mixture has no such source; for yours: data=own_mixture "data.train.sources={{mine: <path>}}"'
        )
    groups = [o for o in overrides if (config_dir() / o.split("=")[0].lstrip("+~")).is_dir()]
    known = [k for k in _all_keys(groups) if not key.startswith(f"{k}.")]
    return f"{key}: no such key{did_you_mean(key, known) or f'; a new one is added with a plus, +{key}=…'}"


def _choices(folder: Path) -> list[str]:
    return sorted(f.stem for f in folder.glob("*.yaml") if not f.stem.startswith("_"))


def _all_keys(groups: list[str]) -> list[str]:
    """Every dotted key of the config with these choices of groups."""
    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig

    def walk(node: Any, prefix: str) -> list[str]:
        keys = []
        for key in node:
            keys.append(prefix + str(key))
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_missing() and not child._is_none():
                keys += walk(child, f"{prefix}{key}.")
        return keys

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return walk(compose("config", overrides=groups), "")


def _precheck(argv: list[str]) -> str | None:
    """Compose once, with the first value of each sweep, so that a mistake is told in one line before anything starts."""
    from hydra import compose, initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = [a for a in argv if not a.startswith("-") and ("=" in a or a.startswith("~"))]  # not flags' values
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        first = [str(o.input_line) if not o.is_sweep_override() else _first_of(o) for o in parsed]
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            compose("config", overrides=first, return_hydra_config=True)
    except Exception as error:
        return _composition_error(error, overrides)
    return None


def _first_of(override: Any) -> str:
    return f"{override.input_line.split('=')[0]}={next(iter(override.sweep_string_iterator()))}"


def _settle_here(run: Path) -> None:
    """A run that was moved or copied writes into its own folder: the paths in its config are made to name it."""
    import yaml

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


def _resume_arguments(argv: list[str]) -> list[str]:
    """``resume=<run>`` becomes a start from that run's own saved config, in that run's own folder."""
    import json

    import yaml

    from cliplab.settings.following import with_followers

    target = next(a for a in argv if a.startswith("resume=")).removeprefix("resume=")
    run = Path(target).expanduser().resolve()
    if not (run / "config.yaml").is_file():
        sys.exit(f"error: resume={target}: there is no config.yaml in that folder; name the folder of a run")
    manifest = run / "manifest.json"
    if manifest.is_file() and json.loads(manifest.read_text())["status"] == "finished":
        print(f"{target} is finished; nothing to do\n{run}")
        sys.exit(0)
    rest = [a for a in argv if not a.startswith("resume=")]
    for override in rest:
        key = override.lstrip("+~").split("=")[0]
        if (config_dir() / key).is_dir() and not override.startswith("-"):
            sys.exit(
                f"error: {override}: only values as trainer.devices=2 can change beside resume=, not a whole group"
            )
    _settle_here(run)
    rest = with_followers(yaml.safe_load((run / "config.yaml").read_text(encoding="utf8")), rest)
    if not (run / "checkpoints" / "last.ckpt").is_file():
        print(f"there is no checkpoint in {run} yet: the run starts over")
    place = [f"hydra.run.dir={run}", "hydra.output_subdir=null", "hydra/job_logging=none", f"paths.run={run}"]
    return [f"--config-path={run}", "--config-name=config", *place, *rest]


RANK_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "GROUP_RANK", "RANK", "WORLD_SIZE")
_outcome: dict[str, Any] = {"status": 0, "sweep": None}


def _run_job(cfg: Any) -> float | None:
    """One job: check, then the task. A mistake of the user's is one line; the traceback with CLIPLAB_TRACEBACK=1.

    A job of a sweep that fails returns None, and the sweep goes on.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra_cfg = HydraConfig.get()
    sweeping = str(hydra_cfg.mode).endswith("MULTIRUN")
    if sweeping:
        _outcome["sweep"] = Path(hydra_cfg.sweep.dir).resolve()
    OmegaConf.set_struct(cfg, False)
    if OmegaConf.is_missing(cfg.paths, "run"):
        cfg.paths.run = str(Path(hydra_cfg.runtime.output_dir).resolve())
    before = {name: os.environ.get(name) for name in RANK_VARIABLES}
    try:
        return _checked_task(cfg, list(hydra_cfg.overrides.task))
    except SystemExit as stop:
        if sweeping:
            raise KeyboardInterrupt from stop  # Hydra takes an exit for the end of this job alone
        raise
    finally:
        for name in RANK_VARIABLES:
            if before[name] is None:
                os.environ.pop(name, None)


def _checked_task(cfg: Any, overrides: list[str]) -> float | None:
    from hydra.utils import get_method

    from cliplab.settings.config import ConfigError, base_config, check, fill_own_values, origins, resolved
    from cliplab.settings.job import Job, Outcome
    from cliplab.settings.values import check_optimized, check_values

    try:
        typed_at = origins(cfg)
        config = resolved(cfg)
        check_values(config, typed_at)
        if _outcome["sweep"]:
            check_optimized(config)
        fill_own_values(cfg)
        config = resolved(cfg)
        check(config, base_config(config_dir()), typed_at)
        outcome: Outcome = get_method(config["task"]["function"])(Job(config, cfg, overrides))
        if outcome.path is not None:
            print(outcome.path)
        return outcome.figure
    except ConfigError as error:
        message = f"config error: {error}"
    except (ValueError, ImportError, RuntimeError, OSError) as error:
        message = f"error: {_one_line(error)}"
        if os.environ.get("CLIPLAB_TRACEBACK"):
            traceback.print_exc()
    print(message, file=sys.stderr)
    _outcome["status"] = 1
    if _outcome["sweep"]:
        from cliplab.runs.sweep import note_failure

        note_failure(Path(cfg.paths.run), overrides, message)
    else:
        with contextlib.suppress(OSError):
            Path(cfg.paths.run).rmdir()  # only when nothing was written there
    return None


def main() -> None:
    """Entry point of ``python run.py`` and of the console command ``cliplab``."""
    try:
        _command(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # what reads the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(argv: list[str]) -> None:
    if "--help" in argv or "-h" in argv:
        return _print_help()
    os.environ.setdefault("CLIPLAB_ROOT", str(project_root()))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come here, not to Hydra's printer
    if any(a.startswith("resume=") for a in argv):
        sys.argv[1:] = argv = _resume_arguments(argv)
    elif not any(a.startswith("--config-path") for a in argv):
        problem = _precheck(argv)
        if problem:
            sys.exit(f"config error: {problem}")
    import hydra
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("run_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
    try:
        hydra.main(config_path=str(config_dir()), config_name="config", version_base="1.3")(_run_job)()
    except KeyboardInterrupt:
        _outcome["status"] = 130
    except ValueError as error:
        if not _outcome["sweep"]:
            raise
        print(f"error: the search ended without a result: {_one_line(error)}", file=sys.stderr)
        _outcome["status"] = 1
    if _outcome["sweep"]:
        from cliplab.runs.sweep import summarise

        page = summarise(_outcome["sweep"])
        if page is not None:
            print(page)
    if _outcome["status"]:
        sys.exit(_outcome["status"])
