"""Rules for the arguments of foreign classes whose signatures do not state them, and the packages that classes need."""

import typing
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le

from cliplab.rules import Count, Decay, Natural, NonNegative, Positive, Share

Limit = Count | Literal[-1] | None
Part = Count | Annotated[float, Gt(0), Le(1)] | None
"""A number of batches, or a share of an epoch."""

# Without Lightning's transformer-engine, which check_trainer refuses with the reason
Precision = Literal[
    "auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", 64, 32, 16, "64", "32", "16", "bf16",
]  # fmt: skip
Strategy = Literal[
    "auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_find_unused_parameters_true",
    "ddp_find_unused_parameters_false", "fsdp", "fsdp_cpu_offload", "deepspeed", "deepspeed_stage_1", "deepspeed_stage_2",
    "deepspeed_stage_3", "deepspeed_stage_2_offload", "deepspeed_stage_3_offload", "single_device",
]  # fmt: skip

TRAINER = {
    "accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
    "strategy": Strategy,
    "precision": Precision,
    "num_nodes": Count,
    "max_epochs": Limit,
    "max_steps": Limit,
    "limit_train_batches": Part,
    "gradient_clip_val": NonNegative | None,
    "gradient_clip_algorithm": Literal["norm", "value"] | None,
    "log_every_n_steps": Count,
    "accumulate_grad_batches": Count,
    "profiler": Literal["simple", "advanced", "pytorch", "xla"] | None,
}
OPTIMIZER = {
    "lr": Positive,
    "betas": tuple[Decay, ...],
    "eps": NonNegative,
    "weight_decay": NonNegative,
    "momentum": Share,
    "dampening": Share,
}
CHECKPOINT = {
    "mode": Literal["min", "max"],
    "every_n_train_steps": Count | None,
    "every_n_epochs": Count | None,
}
RULES: dict[str, dict[str, Any]] = {
    "lightning.Trainer": TRAINER,
    "lightning.pytorch.Trainer": TRAINER,
    "torch.optim.*": OPTIMIZER,
    "timm.optim.*": OPTIMIZER,
    "lightning.pytorch.callbacks.ModelCheckpoint": CHECKPOINT,
    "lightning.pytorch.callbacks.EarlyStopping": {"mode": Literal["min", "max"], "patience": Natural},
}
PACKAGES = {
    "lightning.pytorch.loggers.WandbLogger": "wandb",
    "lightning.pytorch.loggers.MLFlowLogger": "mlflow",
    "lightning.pytorch.loggers.TensorBoardLogger": "tensorboard",
    "lightning.pytorch.loggers.CometLogger": "comet_ml",
    "lightning.pytorch.loggers.NeptuneLogger": "neptune",
}


def rule_for(rule: Any, annotation: Any) -> Any:
    """The rule for an argument of a class. A rule for a tuple of any length takes the length that the class states in its
    annotation: of betas, AdamW takes two and Adan three."""
    kind, length = typing.get_args(rule), len(typing.get_args(annotation))
    exact = typing.get_origin(annotation) is tuple and Ellipsis not in typing.get_args(annotation)
    return tuple[(kind[0],) * length] if Ellipsis in kind and exact else rule  # type: ignore[misc]


def rules_of(target: str) -> dict[str, Any]:
    """The rules for the arguments of a class. A rule may hold for all classes of a module."""
    words = target.split(".")
    above = [".".join([*words[:end], "*"]) for end in range(len(words) - 1, 0, -1)]
    return next((RULES[name] for name in (target, *above) if name in RULES), {})
