"""The LightningModule: encode the batch once, compute the objective, and step one optimizer."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor

from cliplab.distributed import world_size
from cliplab.models.chunks import encode_in_chunks, split_tokens
from cliplab.models.clip import CLIP, EMBEDS, Encoded
from cliplab.objectives.objective import Objective, Pairs
from cliplab.optim.locking import Locking, TowerLock
from cliplab.optim.param_groups import OptimizerRecipe, ParameterGroup, build_optimizer, parameter_groups


def wrap_again(strategy: Strategy, module: lightning.LightningModule) -> None:
    """Let DDP exchange the gradients of all parameters that train now. It only knows those that trained when it wrapped the
    module.

    ``_setup_model`` is a private method of Lightning; there is no public one.
    """
    if isinstance(strategy, DDPStrategy):
        strategy.model = strategy._setup_model(module)


def _nothing(encoded: Encoded) -> Tensor:
    """Zero, with a gradient of zero for the scale and the bias: ranks wait for it, also where no objective reads them."""
    scalars = [encoded.logit_scale, *([] if encoded.logit_bias is None else [encoded.logit_bias])]
    return 0 * torch.stack([scalar.float() for scalar in scalars]).sum()


class TrainingModule(lightning.LightningModule):
    """Trains ``model``, and the parameters of ``objective``, over the batches of the data module.

    The heads of the objective are built here. ``optimizer`` is called with named parameter groups, ``schedule`` with
    (step, total_steps=…). ``total_steps`` counts optimizer steps. ``locking`` has a lock for each part. ``config`` (plain
    dicts and lists) and ``tokenizer_definition`` are saved in the checkpoint, so that the model can be rebuilt from it.
    The loss and the objective's figures are logged as ``train/…``. The towers encode the batch in ``chunks`` parts.
    """

    model: CLIP
    objective: Objective

    def __init__(
        self,
        *,
        model: CLIP,
        objective: Objective,
        optimizer: OptimizerRecipe,
        schedule: Callable[..., float],
        total_steps: int,
        config: dict[str, Any],
        locking: Mapping[str, TowerLock] | None = None,
        tokenizer_definition: Mapping[str, Any] | None = None,
        chunks: int = 1,
    ) -> None:
        super().__init__()
        objective.build_heads(model)
        self.model, self.objective = model, objective
        self.optimizer_recipe, self.schedule = optimizer, schedule
        self.total_steps, self.config, self.tokenizer_definition = total_steps, config, tokenizer_definition
        self.chunks = chunks
        self.last_step_figures: dict[str, float] = {}  # from a checkpoint: a run may go on after its last step
        self.lock(locking or {})

    def lock(self, locks: Mapping[str, TowerLock]) -> None:
        """Lock the parameters that are there now."""
        self.locking = Locking(self.model, self.objective, locks)
        self.locking.apply(0)

    @property
    def leaves_parameters_unread(self) -> bool:
        """Whether parameters of the model get no gradient because the objective does not read what they give."""
        return not self.objective.reads >= EMBEDS

    def train(self, mode: bool = True) -> "TrainingModule":
        """Set the mode. Frozen parts stay in eval mode."""
        super().train(mode)
        self.locking.set_frozen_to_eval()
        return self

    def training_step(self, batch: Pairs, batch_idx: int) -> Tensor:
        encoded = self._encoded(batch)
        loss, figures = self.objective(encoded, batch)
        named = {"train/loss": loss, **{f"train/{name}": value for name, value in figures.items()}}
        self.log_dict(named, logger=False)  # LogSteps passes them to the loggers
        return loss if world_size() == 1 else loss + _nothing(encoded)

    def _encoded(self, batch: Pairs) -> Encoded:
        if self.chunks == 1:
            return self.model(batch.images, batch.tokens, self.objective.reads)
        texts = split_tokens(batch.tokens, self.chunks)
        return encode_in_chunks(self.model, batch.images, texts, self.objective.reads)

    def on_train_batch_start(self, batch: Pairs, batch_idx: int) -> None:
        """Unfreeze what is due, and seed the step.

        Random draws of a step (dropout) depend on seed, step and rank alone, so that no generator has to be saved.
        """
        if self.locking.apply(self.global_step):
            wrap_again(self.trainer.strategy, self)
        part_of_step = batch_idx % self.trainer.accumulate_grad_batches
        sequence = np.random.SeedSequence([self.config["seed"], part_of_step, self.global_step, self.global_rank])
        seed = int(sequence.generate_state(1, np.uint64)[0])
        torch.manual_seed(seed // 2)  # 63 bits: torch takes a signed number

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and keep the scale in range before a callback sees, averages or saves the weights of this step."""
        super().optimizer_step(*args, **kwargs)
        self.model.keep_in_range()

    def configure_optimizers(self) -> Any:
        for scalar in (self.model.logit_scale, self.model.logit_bias):
            if scalar is not None and scalar.dtype.itemsize == 2:  # bf16-true: too coarse for its small steps
                scalar.data = scalar.data.float()
        optimizer = build_optimizer(self.optimizer_recipe, self._groups())  # the schedule multiplies each group's rate
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.schedule(min(step, self.total_steps), total_steps=self.total_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _groups(self) -> list[ParameterGroup]:
        return parameter_groups(
            self.model,
            self.objective,
            lr_scales=self.locking.lr_scales(),
            frozen_for_now=self.locking.frozen_for_now(),
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises ValueError for a checkpoint of an earlier version whose optimizer had other groups of parameters."""
        groups = [group for state in checkpoint.get("optimizer_states", ()) for group in state["param_groups"]]
        sizes = {group["name"]: len(group["params"]) for group in self._groups()}
        otherwise = [g for g in groups if "name" in g and len(g["params"]) != sizes.get(g["name"], len(g["params"]))]
        if otherwise or (groups and "name" not in groups[0]):
            raise ValueError(
                "this checkpoint was written by an earlier version whose optimizer had other groups of parameters, so the "
                "run cannot be resumed. Begin a new run with its weights, run=<its folder>, or resume it with that version"
            )
        self.last_step_figures = checkpoint.get("cliplab_figures", {})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["cliplab_config"] = self.config
        known = self.trainer.callback_metrics.items()
        figures = {key: float(value) for key, value in known if key.startswith("train/")}
        checkpoint["cliplab_figures"] = {**self.last_step_figures, **figures}
        if self.tokenizer_definition is not None:
            checkpoint["cliplab_tokenizer"] = self.tokenizer_definition
