"""Which parts of the towers and of the objective train, from when on, and at what share of the rate."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from cliplab.models.clip import CLIP
from cliplab.models.encoders import LayeredModule
from cliplab.rules import Natural, NonNegative


@dataclass(frozen=True)
class TowerLock:
    """How a tower, or the objective, trains.

    The groups are those of ``layer_groups``. In a tower they run from input to output: embeddings, each layer, the
    projection. Only the last ``unlocked_groups`` train (0: none, as in LiT, Zhai et al. 2022; null: all). After
    ``unfreeze_at_step`` optimizer steps all of them train. The rate of a parameter is the optimizer's times
    ``lr_multiplier``, times ``layer_decay`` once for each group after its own (Bao et al. 2021, BEiT). Raises ValueError
    on values outside their range.
    """

    unlocked_groups: Natural | None = None
    unfreeze_at_step: Natural | None = None
    lr_multiplier: NonNegative = 1.0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if self.unlocked_groups is not None and self.unlocked_groups < 0:
            raise ValueError(f"unlocked_groups {self.unlocked_groups} is negative; 0 locks the whole tower")
        if self.unfreeze_at_step is not None and (self.unlocked_groups is None or self.unfreeze_at_step < 1):
            raise ValueError(
                f"unfreeze_at_step {self.unfreeze_at_step} needs something locked before it and must be 1 or more; "
                "set unlocked_groups too"
            )
        for name, factor in (("lr_multiplier", self.lr_multiplier), ("layer_decay", self.layer_decay)):
            if not factor > 0:
                raise ValueError(f"{name} {factor} must be above 0; to train nothing set unlocked_groups=0")


class _LockedPart:
    """A tower, or the objective, and its lock."""

    def __init__(self, name: str, module: LayeredModule, lock: TowerLock) -> None:
        self.module, self.lock, self.layers = module, lock, module.layer_groups()
        in_layers = [parameter for layer in self.layers for parameter in layer]
        assert len(in_layers) == len(list(module.parameters())), "a parameter has no group, or two"
        unlocked = len(self.layers) if lock.unlocked_groups is None else lock.unlocked_groups
        if unlocked > len(self.layers):
            raise ValueError(
                f"locking.{name}.unlocked_groups {unlocked} exceeds the {len(self.layers)} groups of this tower; "
                f"set it below {len(self.layers)}, or to null to lock nothing"
            )
        self.lockable = [p for layer in self.layers[: len(self.layers) - unlocked] for p in layer]

    def apply(self, step: int) -> bool:
        """Freeze or unfreeze what is lockable. Returns whether anything changed."""
        trains = self.lock.unfreeze_at_step is not None and step >= self.lock.unfreeze_at_step
        changed = any(parameter.requires_grad != trains for parameter in self.lockable)
        for parameter in self.lockable:
            parameter.requires_grad = trains
        return changed

    def set_frozen_to_eval(self) -> None:
        if not self.lockable or self.lockable[0].requires_grad:
            return
        for module in self.module.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()

    def lr_scales(self) -> dict[nn.Parameter, float]:
        last = len(self.layers) - 1
        return {
            parameter: self.lock.lr_multiplier * self.lock.layer_decay ** (last - i)
            for i, layer in enumerate(self.layers)
            for parameter in layer
        }


class Locking:
    """The locks of both towers of ``model`` and of the objective, applied by step.

    ``locks`` has the keys ``image_encoder``, ``text_encoder`` and ``objective``. A part without a lock trains as a whole.
    """

    def __init__(self, model: CLIP, objective: LayeredModule, locks: Mapping[str, TowerLock]) -> None:
        self.model, self.locks = model, locks
        self.parts = {
            name: _LockedPart(name, part, locks.get(name, TowerLock()))
            for name, part in {
                "image_encoder": model.image_encoder,
                "text_encoder": model.text_encoder,
                "objective": objective,
            }.items()
        }

    @property
    def changes_anything(self) -> bool:
        return any(part.lock != TowerLock() for part in self.parts.values())

    def apply(self, step: int) -> bool:
        """Set what trains after ``step`` optimizer steps. Returns whether that changed.

        ``model.text_fixed`` says whether the whole text tower is frozen. Values computed from its embeddings can then be
        kept.
        """
        changed = [part for part in self.parts.values() if part.apply(step)]
        if not changed:
            return False
        tower_trains = any(p.requires_grad for p in self.model.text_encoder.parameters())
        self.model.text_fixed = not tower_trains and self.model.text_projection is None
        for part in changed:
            part.module.train(self.model.training)
        self.set_frozen_to_eval()
        return True

    def set_frozen_to_eval(self) -> None:
        """Eval mode for every module whose parameters are all frozen: no dropout, and BatchNorm keeps its statistics."""
        for part in self.parts.values():
            part.set_frozen_to_eval()

    def frozen_for_now(self) -> set[nn.Parameter]:
        """Parameters that a lock holds only until its ``unfreeze_at_step``."""
        temporary = [part for part in self.parts.values() if part.lock.unfreeze_at_step is not None]
        return {parameter for part in temporary for parameter in part.lockable}

    def lr_scales(self) -> dict[nn.Parameter, float]:
        """Each parameter's share of the optimizer's rate. Parameters that are not listed train at the whole rate."""
        return {parameter: scale for part in self.parts.values() for parameter, scale in part.lr_scales().items()}
