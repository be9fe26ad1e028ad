"""Which parts of the towers train, from when on, and at what share of the rate."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class TowerLock:
    """How one tower trains.

    A tower's groups run from its input to its output: embeddings, each layer, the projection. Only the last
    ``unlocked_groups`` train (0: none, as Zhai et al. 2022, LiT; null: all), until ``unfreeze_at_step`` optimizer steps
    are done; then all do. Rates are the optimizer's times ``lr_multiplier``, times ``layer_decay`` once for every group
    after the parameter's own (Bao et al. 2021, BEiT). Raises ValueError on values outside their range.
    """

    unlocked_groups: int | None = None
    unfreeze_at_step: int | None = None
    lr_multiplier: float = 1.0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if self.unlocked_groups is not None and self.unlocked_groups < 0:
            raise ValueError(f"unlocked_groups {self.unlocked_groups} is negative; 0 locks the whole tower")
        if self.unfreeze_at_step is not None and (self.unlocked_groups is None or self.unfreeze_at_step < 1):
            raise ValueError(
                f"unfreeze_at_step {self.unfreeze_at_step} needs something locked before it and must be 1 or more; "
                "set unlocked_groups too"
            )
        for name in ("lr_multiplier", "layer_decay"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} {getattr(self, name)} must be above 0; to train nothing set unlocked_groups=0"
                )


def layer_groups(tower: nn.Module) -> list[list[nn.Parameter]]:
    """The tower's own groups from input to output, or all of it as one."""
    groups = tower.layer_groups() if hasattr(tower, "layer_groups") else [list(tower.parameters())]  # type: ignore[operator]
    assert sum(len(group) for group in groups) == len(list(tower.parameters())), "a parameter has no group, or two"
    return groups


class _LockedTower:
    """One tower and its lock."""

    def __init__(self, name: str, tower: nn.Module, lock: TowerLock) -> None:
        self.tower, self.lock, self.groups = tower, lock, layer_groups(tower)
        unlocked = len(self.groups) if lock.unlocked_groups is None else lock.unlocked_groups
        if unlocked > len(self.groups):
            raise ValueError(
                f"locking.{name}.unlocked_groups {unlocked} exceeds the {len(self.groups)} groups of this tower; "
                f"set it below {len(self.groups)}, or to null to lock nothing"
            )
        self.lockable = [p for group in self.groups[: len(self.groups) - unlocked] for p in group]

    def apply(self, step: int) -> bool:
        thaw = self.lock.unfreeze_at_step is not None and step >= self.lock.unfreeze_at_step
        changed = any(p.requires_grad != thaw for p in self.lockable)
        for p in self.lockable:
            p.requires_grad = thaw
        return changed

    def rest(self) -> None:
        """Eval mode for every part whose parameters are all frozen: no dropout, and BatchNorm keeps its statistics."""
        if not self.lockable or self.lockable[0].requires_grad:
            return
        for module in self.tower.modules():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()

    def scales(self) -> dict[nn.Parameter, float]:
        last = len(self.groups) - 1
        return {
            p: self.lock.lr_multiplier * self.lock.layer_decay ** (last - i)
            for i, group in enumerate(self.groups)
            for p in group
        }


class Locking:
    """The locks of both towers of ``model``, applied by step."""

    def __init__(self, model: nn.Module, *, image_encoder: TowerLock, text_encoder: TowerLock) -> None:
        self.model = model
        self.towers = [
            _LockedTower("image_encoder", model.image_encoder, image_encoder),  # type: ignore[arg-type]
            _LockedTower("text_encoder", model.text_encoder, text_encoder),  # type: ignore[arg-type]
        ]

    @property
    def changes_anything(self) -> bool:
        return any(tower.lock != TowerLock() for tower in self.towers)

    def apply(self, step: int) -> bool:
        """Set what trains after ``step`` optimizer steps, and whether that changed. A text tower of which nothing trains is
        marked on the model, so that what is made of its embeddings can be kept."""
        changed = [tower.apply(step) for tower in self.towers]
        if not any(changed):
            return False
        self.model.text_fixed = not any(p.requires_grad for p in self.model.text_encoder.parameters())  # type: ignore[union-attr,assignment]
        for tower, moved in zip(self.towers, changed, strict=True):
            if moved:
                tower.tower.train(self.model.training)
        self.rest()
        return True

    def rest(self) -> None:
        for tower in self.towers:
            tower.rest()

    def later(self) -> set[nn.Parameter]:
        """Parameters that are frozen now and will train."""
        return {p for t in self.towers if t.lock.unfreeze_at_step is not None for p in t.lockable}

    def scales(self) -> dict[nn.Parameter, float]:
        """Each tower parameter's share of the optimizer's rate."""
        return {p: scale for tower in self.towers for p, scale in tower.scales().items()}
