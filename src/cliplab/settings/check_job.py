"""All checks of a job's config that import nothing heavy, in their order."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cliplab.settings.check_metric import check_optimized
from cliplab.settings.check_parts import check_parts
from cliplab.settings.check_targets import check_sources, check_top_level
from cliplab.settings.check_values import check_values
from cliplab.settings.config import ConfigError, base_config, origins, resolved

GLOBAL_GROUPS = ("experiment", "debug", "local")  # groups whose files set values of the whole config


def check_job(cfg: DictConfig, config_dir: Path, *, sweeping: bool, elsewhere: bool = False) -> dict[str, Any]:
    """The resolved config, once it is checked. Raises ConfigError. A job that runs ``elsewhere`` is not held to this
    machine."""
    for group in GLOBAL_GROUPS:
        if group in cfg:
            raise ConfigError(
                f"{group}: the chosen file of {group}/ sets values under {group} and not at the top; its first line must be "
                "# @package _global_"
            )
    value_origins, builds = origins(cfg), cfg.task.get("builds", True)
    if builds:
        check_parts(OmegaConf.to_container(cfg, resolve=False))  # type: ignore[arg-type]
    config = resolved(cfg)
    check_values(config, value_origins, elsewhere=elsewhere)
    if builds:
        check_sources(config, base_config(config_dir), value_origins)
    else:  # nothing of the model's config is built
        check_top_level(config, base_config(config_dir))
    if sweeping:
        check_optimized(config)
    return config
