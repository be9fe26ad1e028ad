"""trainer.strategy=fsdp: towers are sharded over the ranks by FSDP2. A run's checkpoint stays one file of whole tensors."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.optim import Optimizer

from cliplab.distributed import local_part, total_norm, world_size
from cliplab.training.module import TrainingModule

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedStrategy(ModelParallelStrategy):
    """Shards over all ranks. A checkpoint is one file, as that of a run without sharding: a single process reads it, and
    either kind of run goes on from it."""

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_processes * self.num_nodes, 1
        super().setup_environment()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state, with parameters numbered in the order of the groups, as torch does; empty on further ranks."""
        state = get_optimizer_state_dict(self._module, optimizer, options=WHOLE)
        groups: Any = state.get("param_groups", [])
        number = {name: i for i, name in enumerate(name for group in groups for name in group["params"])}
        return {
            "state": {number[name]: value for name, value in state.get("state", {}).items()},  # type: ignore[union-attr]
            "param_groups": [{**group, "params": [number[name] for name in group["params"]]} for group in groups],
        }

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load weights and optimizer from one file, each rank its part."""
        saved = torch.load(self.broadcast(checkpoint_path), map_location="cpu", mmap=True, weights_only=weights_only)
        set_model_state_dict(self._module, saved["state_dict"], options=WHOLE)
        names = {parameter: name for name, parameter in self._module.named_parameters()}
        for optimizer, state in zip(self.optimizers, saved.get("optimizer_states", []), strict=False):
            ours = [names[p] for group in optimizer.param_groups for p in group["params"]]
            theirs = [number for group in state["param_groups"] for number in group["params"]]
            name = dict(zip(theirs, ours, strict=True))
            keyed: Any = {
                "state": {name[number]: value for number, value in state["state"].items()},
                "param_groups": [
                    {**g, "params": [name[number] for number in g["params"]]} for g in state["param_groups"]
                ],
            }
            set_optimizer_state_dict(self._module, optimizer, keyed, options=WHOLE)
        return saved

    @property
    def _module(self) -> nn.Module:
        assert self.model is not None
        return self.model


class ShardedTrainingModule(TrainingModule):
    """Trains as TrainingModule does, with each tower and each of its layers sharded (Zhao et al. 2023, PyTorch FSDP).

    What belongs to no tower (scale, bias, the parameters of the objective) is small: every rank keeps it whole, and its
    gradient is averaged over the ranks, as that of the towers is. Raises ValueError for a lock that opens later.
    """

    def configure_model(self) -> None:
        strategy = self.trainer.strategy
        assert isinstance(strategy, ModelParallelStrategy)
        self.shard(strategy.device_mesh["data_parallel"])

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard the towers. FSDP puts new parameters in the place of theirs, so the locks are made again."""
        for tower in (self.model.image_encoder, self.model.text_encoder):
            for layer in tower.layers():
                fully_shard(layer, mesh=mesh)
            fully_shard(tower, mesh=mesh)
            register_fsdp_forward_method(tower, "forward_states")
        self.lock(self.locking.locks)

    def on_after_backward(self) -> None:
        """Average the gradients of what is not sharded."""
        if world_size() == 1:
            return
        for parameter in whole_parameters(self):
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world_size()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm of the whole gradient, or by value."""
        if not gradient_clip_val:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        parts = [local_part(gradient) for gradient in gradients]
        if gradient_clip_algorithm == "value":
            for part in parts:
                part.clamp_(-gradient_clip_val, gradient_clip_val)
            return
        share = (gradient_clip_val / (total_norm(gradients) + 1e-6)).clamp(max=1)  # as torch.nn.utils.clip_grad_norm_
        for part in parts:
            part.mul_(share)


def whole_parameters(module: TrainingModule) -> list[nn.Parameter]:
    """The parameters that every rank keeps whole."""
    towers = (module.model.image_encoder, module.model.text_encoder)
    sharded = {parameter for tower in towers for parameter in tower.parameters()}
    return [parameter for parameter in module.parameters() if parameter not in sharded]


# Optimizers that read whole parameters (their norm, their rows and columns), which torch cannot do or save for parts
WHOLE_ONLY = ("Muon", "Adafactor", "AdafactorBigVision", "Mars")


def _optimizer_refusal(node: dict[str, Any]) -> str:
    name = str(node["_target_"]).rpartition(".")[2]
    if name in WHOLE_ONLY:
        return (
            f"optimizer: {name} works on whole parameters, which trainer=fsdp has in parts; use adamw, or trainer=ddp"
        )
    if name == "SGD" and node.get("fused"):
        return "optimizer.fused: torch has no fused SGD for sharded parameters; set optimizer.fused=false"
    return ""


def refusal(config: dict[str, Any]) -> str:
    """Why a config cannot be trained with sharded towers; "" if it can."""
    locks = [lock for lock in (config.get("locking") or {}).values() if isinstance(lock, dict)]
    if any(lock.get("unfreeze_at_step") is not None for lock in locks):
        return "locking: unfreeze_at_step needs trainer=ddp; sharded parameters keep what they were frozen with"
    if reason := _optimizer_refusal(config["optimizer"]):
        return reason
    targets = [str(node.get("_target_")) for node in (config.get("callbacks") or {}).values() if node]
    if any(target.endswith(".AverageWeights") for target in targets):
        return (
            "callbacks: the average of the weights needs them whole on each rank; use trainer=ddp, or callbacks=default"
        )
    if config.get("compile"):
        return "compile: trainer=fsdp is not compiled; use trainer=ddp, or compile=false"
    return ""
