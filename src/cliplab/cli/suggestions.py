"""Suggest the key or the choice that was probably meant."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from cliplab.cli import places
from cliplab.cli.arguments import Arguments
from cliplab.program import command, key_of
from cliplab.settings.check_trainer import PRECISIONS
from cliplab.text import listed

# Names that other training programs use
SYNONYMS = {
    "gpus": "trainer.devices",
    "num_gpus": "trainer.devices",
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "num_steps": "trainer.max_steps",
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "beta1": "optimizer.betas",
    "beta2": "optimizer.betas",
    "warmup": "scheduler.warmup_steps",
    "bs": "data.batch_size",
    "workers": "data.num_workers",
    "train_data": "data.path",
    "dataset": "data.path",
    "imagenet_val": "zeroshot.imagenet.dataset.path",
    "temperature": "model.init_temperature",
    **dict.fromkeys(("fp16", "amp", "bf16", "half", "mixed_precision"), "trainer.precision"),
    "accumulate_grad_batches": "trainer.contrastive_accumulation",
    "output_dir": "hydra.run.dir",
    "save_dir": "hydra.run.dir",
    "checkpoint": "ckpt",
}

# What other sweepers and launchers call a setting, and what is typed here
SWEEPERS = ("sweep", "sweep.method", "hydra", "hydra.sweeper", "hydra.sweeper.sampler", "hydra.launcher", "launcher")
OF_SWEEPS = {
    **dict.fromkeys(("n_trials", "num_trials", "trials", "max_trials", "num_samples", "budget"), "sweep.trials=…"),
    **dict.fromkeys(("n_jobs", "max_batch_size", "batch_size", "num_workers"), "launcher=joblib launcher.jobs=…"),
    **dict.fromkeys(("repeat", "repeats", "n_repeats", "num_seeds", "n_seeds"), "-m sweep=seeds sweep.trials=…"),
    **dict.fromkeys(
        ("sampler", "algorithm", "algo"), "sweep=random, tpe or gp; its arguments are sweep.method.sampler.…"
    ),
    **dict.fromkeys(("pruner", "early_stop", "scheduler"), "sweep=asha; its arguments are callbacks.prune.pruner.…"),
    **dict.fromkeys(
        ("search_space", "params", "parameters"), "each key as it is, optimizer.lr=1e-3,3e-3, or sweep.space"
    ),
    "study_name": "sweep.study=…",
    "storage": "sweep.storage=…",
    "direction": "sweep.direction=…",
    "directions": "sweep.direction=[…]",
    "metric": "sweep.metric=…",
    "objective": "sweep.metric=…",
    "seed": "sweep.seed=…",
}
SEVERAL = ("zeroshot", "logger", "callbacks")  # groups of which several choices can be used together
NOTHING = ("none", "no", "off", "false", "nothing")
ALONE = (
    "n_trials",
    "num_trials",
    "n_jobs",
    "repeat",
    "repeats",
    "n_repeats",
    "num_seeds",
    "n_seeds",
    "sampler",
    "pruner",
)


def nearest_choice(word: str, known: Iterable[str]) -> str:
    """The known name that is most similar to ``word``, without regard to capital letters and signs; "" when none is, or when
    the word says that there is to be none."""
    names = list(known)
    same = [name for name in names if _plain(name) == _plain(word)]
    close = [] if word.lower() in NOTHING else difflib.get_close_matches(word, names, n=1)
    return next(iter([*same, *close]), "")


def listed_choices(names: Sequence[str]) -> str:
    """Those that help lists, in short."""
    return listed(names, most=20, where=f", see {command()} --help")


def unknown_key(key: str, arguments: Arguments, sign: str = "") -> str:
    """Say that there is no such key. Suggest the keys that may have been meant, or say how to add a key."""
    whole = next((key_of(o) for o in arguments.overrides if key_of(o).startswith(f"{key}.")), key)
    if key.split(".")[0] == "defaults":
        return f"{key}: a list of defaults stands in config files; here each group is chosen by itself, as data=emoji"
    of_a_sweep = _of_a_sweep(whole) or _of_a_sweep(key)
    if of_a_sweep and not sign:
        return f"{whole}: no such key; type {of_a_sweep}"
    known = [name for name in known_keys(arguments) if key.startswith("hydra") or not name.startswith("hydra.")]
    parent, _, leaf = key.rpartition(".")
    if not sign and parent in known and _is_argument(parent, leaf, arguments):
        return f"{key}: it is not set in the config; add it with a plus, +{key}=…"
    group = next((name for name in places.groups() if name.rpartition("/")[2] == key), None)
    if group and not sign:
        return f"{key}: no such key; did you mean {group!r}?"
    similar = [name for name in _similar_keys(key, known) if name != parent]
    if similar == ["trainer.precision"]:
        typed = next((o.partition("=")[2] for o in arguments.overrides if key_of(o) == key), "").lower()
        named = PRECISIONS.get(key, typed) if typed in ("true", "1", "") else typed  # fp16=true
        return f"{key}: no such key; did you mean trainer.precision={PRECISIONS.get(named, named)}?"
    if similar:
        return f"{key}: no such key; did you mean {' or '.join(map(repr, similar))}?"
    siblings = [name for name in known if name.rpartition(".")[0] == parent and not name.endswith("_")]
    if parent in known and siblings:
        return (
            f"{key}: no such key; {parent} has {listed_choices([name.removeprefix(f'{parent}.') for name in siblings])}"
        )
    return f"{key}: no such key" + ("" if sign else f"; a new one is added with a plus, +{key}=…")


def _of_a_sweep(key: str) -> str:
    """What is typed for a setting that other sweepers and launchers have under this name; "" when there is none."""
    found = re.fullmatch(r"hydra\.sweeper\.(?:params|search_space)\.(.+)", key)
    if found:
        return f"{found[1]}=… itself, with its values or range"
    if key == "launcher.jobs":
        return "launcher=joblib beside it, which runs several jobs side by side"
    parent, _, leaf = key.rpartition(".")
    return OF_SWEEPS.get(leaf, "") if parent in SWEEPERS or (not parent and leaf in ALONE) else ""


def _is_argument(parent: str, name: str, arguments: Arguments) -> bool:
    """Whether the class that a node of the config builds takes an argument of this name."""
    from omegaconf import OmegaConf

    from cliplab.settings.signatures import NotThere, read_signature

    target = OmegaConf.select(_composed(arguments), f"{parent}._target_", default=None, throw_on_missing=False)
    try:
        signature = read_signature(str(target)) if target else None
    except NotThere:
        return False
    return signature is not None and name in signature.parameters


def _plain(name: str) -> str:
    """A name without what is easily left out: batchSize and batch-size are batch_size."""
    return re.sub(r"[-_/ ]", "", name).lower()


def _similar_keys(key: str, known: list[str]) -> list[str]:
    """Keys with the same last name, else a similar key under the same parent, else any key that looks similar."""
    parent, _, leaf = key.rpartition(".")
    leaves = {k: k.rpartition(".")[2] for k in known if k != key}
    for name in (SYNONYMS.get(key), SYNONYMS.get(leaf)):
        if name in leaves and (not parent or (name or "").startswith(f"{parent}.")):
            return [str(name)]
    plain = _plain(leaf)
    alike = (k for k, name in leaves.items() if _plain(name) == plain)
    same_name = sorted(alike, key=lambda k: (k.count("."), known.index(k)))
    if same_name and not parent:
        return [k for k in same_name if k.count(".") == same_name[0].count(".")][:3]
    siblings = difflib.get_close_matches(
        leaf, [name for k, name in leaves.items() if k.rpartition(".")[0] == parent], 1, 0.45
    )
    if siblings:
        return [f"{parent}.{siblings[0]}".lstrip(".")]
    if same_name:
        return same_name[:1]
    whole_key = difflib.get_close_matches(key, known, n=1)
    last_name = difflib.get_close_matches(leaf, list(leaves.values()), n=1, cutoff=0.75)
    return whole_key or [k for k, name in leaves.items() if name in last_name][:1]


def known_keys(arguments: Arguments) -> list[str]:
    """Every dotted key of the config, composed with the typed choices of groups; and the groups."""
    from omegaconf import DictConfig

    def walk(node: Any, prefix: str) -> list[str]:
        keys = []
        for key in node:
            keys.append(prefix + str(key))
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_missing() and not child._is_none():
                keys += walk(child, f"{prefix}{key}.")
        return keys

    return walk(_composed(arguments), "") + list(places.groups())


def takes_list(key: str, arguments: Arguments) -> bool:
    """Whether the key can hold a list. A group can when several of its choices can be used together."""
    from omegaconf import ListConfig, OmegaConf

    if key in places.groups():
        return key in SEVERAL
    held = OmegaConf.select(_composed(arguments), key, default=None, throw_on_missing=False)
    return isinstance(held, ListConfig) or key.rpartition(".")[2] in ("split", "data_files")


def _composed(arguments: Arguments) -> Any:
    """The config composed with the typed choices of groups, or without them when that fails."""
    from hydra import compose, initialize_config_dir

    groups = list(places.groups())
    folder = arguments.flags.get("config_path") or str(places.config_dir())
    chosen = [o for o in arguments.overrides if o.lstrip("+~").split("=")[0] in groups]
    with initialize_config_dir(folder, version_base="1.3"):
        name = arguments.flags.get("config_name", "config")
        try:
            return compose(name, overrides=chosen, return_hydra_config=True)
        except Exception:  # one of the choices is a mistake, too
            return compose(name, return_hydra_config=True)
