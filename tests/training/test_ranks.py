"""Two processes on a CPU, sharded (FSDP2) or not (DDP), train to the weights of one process on the whole batch."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from cliplab.data.loader import Batch
from cliplab.models.checkpointing import checkpoint_towers
from cliplab.models.clip import EMBEDS, Encoded
from cliplab.models.tokens import Tokens
from cliplab.objectives.objective import Loss, Objective, Pairs
from cliplab.optim.locking import TowerLock
from cliplab.training.checkpoint_io import AtomicCheckpointIO
from cliplab.training.module import TrainingModule
from cliplab.training.sharding import ShardedStrategy, ShardedTrainingModule, refusal
from tests.processes import run_ranks

from .test_module import CLIP_LOSS, STEPS, batch, module_of

CASES: dict[str, dict[str, Any]] = {
    "sharded": {},
    "locked": {"locking": {"text_encoder": TowerLock(unlocked_groups=1)}, "every": 1},
    "ddp": {"every": 1},
    "sharded in chunks": {"chunks": 2},
    "ddp in chunks": {"chunks": 3, "locking": {"text_encoder": TowerLock(unlocked_groups=0)}},
    "without scale": {"objective": {"_target_": f"{__name__}.Attraction"}},
}
SHARDED = ("sharded", "locked", "sharded in chunks")


class Attraction(Objective):
    """Draws each pair together, and reads neither scale nor bias."""

    reads = EMBEDS

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        assert encoded.image_embeds is not None
        return Loss((encoded.image_embeds - encoded.text_embeds).square().sum(-1).mean(), {})


def share(rank: int, world: int) -> Batch:
    whole, rows = batch(), slice(6 // world * rank, 6 // world * (rank + 1))
    tokens = Tokens(whole.tokens.ids[rows], whole.tokens.lengths[rows])
    return whole._replace(images=whole.images[rows], tokens=tokens, groups=whole.groups[rows])


def trained(name: str, rank: int, world: int, steps: int, ckpt: Path | None, out: Path | None) -> dict[str, Any]:
    """Train a case, and return what the trainer saved, with the norms of its gradients."""
    case = CASES[name]
    module: TrainingModule = module_of(case.get("objective", CLIP_LOSS), case.get("locking"))
    # The bias of keys has a gradient of zero; a larger epsilon keeps its rounding errors from being scaled up
    module.optimizer_recipe = partial(torch.optim.AdamW, lr=0.01, eps=1e-2)
    module.chunks = case.get("chunks", 1) if world > 1 else 1
    strategy: Any = "auto" if world == 1 else "ddp"
    if world > 1 and name in SHARDED:
        module.__class__, strategy = ShardedTrainingModule, ShardedStrategy()
    checkpoint_towers(module.model, case.get("every", 0))
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=world,
        strategy=strategy,
        max_steps=steps,
        gradient_clip_val=0.05,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data: Any = DataLoader([share(rank, world)] * STEPS, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, data, ckpt_path=ckpt, weights_only=None if ckpt is None else True)
    if out is not None:
        trainer.save_checkpoint(out)
    return dict(trainer.callback_metrics)


def train_all(rank: int, world: int, folder: Path) -> None:
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "GROUP_RANK": 0, "LOCAL_WORLD_SIZE": world}
    environment |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": (folder / "port").read_text(),
        "TORCHELASTIC_RUN_ID": "1",
    }
    os.environ |= {key: str(value) for key, value in environment.items()}
    torch.set_num_threads(1)
    for name in CASES:
        trained(name, rank, world, STEPS, None, folder / f"{name}.ckpt")
    trained("sharded", rank, world, 2, None, folder / "half.ckpt")
    trained("sharded", rank, world, STEPS, folder / "half.ckpt", folder / "resumed.ckpt")
    trained("sharded", rank, world, STEPS, folder / "alone half.ckpt", folder / "continued.ckpt")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(path, weights_only=True)
    moments = {
        f"{number}.{key}": value
        for number, state in saved["optimizer_states"][0]["state"].items()
        for key, value in state.items()
    }
    return saved["state_dict"] | moments


def differ(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() <= two.keys()  # ranks exchange a gradient of zero for a scale that is not read
    return max(float((one[key] - two[key]).abs().max() / one[key].abs().max().clamp(min=1)) for key in one)


def test_two_ranks_train_save_and_resume_what_one_does(tmp_path: Path) -> None:
    (tmp_path / "port").write_text(str(29500 + os.getpid() % 2000))
    for name in CASES:
        trained(name, 0, 1, STEPS, None, tmp_path / f"alone {name}.ckpt")
    trained("sharded", 0, 1, 2, None, tmp_path / "alone half.ckpt")
    run_ranks(train_all, 2, tmp_path)
    for name in CASES:
        alone, together = (tensors(tmp_path / f"{start}{name}.ckpt") for start in ("alone ", ""))
        assert differ(alone, together) < 1e-6, name
    whole = tensors(tmp_path / "sharded.ckpt")
    assert differ(whole, tensors(tmp_path / "resumed.ckpt")) == 0
    assert differ(whole, tensors(tmp_path / "half.ckpt")) > 1e-3
    assert differ(whole, tensors(tmp_path / "continued.ckpt")) < 1e-6


def test_what_cannot_be_sharded_is_refused_in_one_line() -> None:
    adamw = {"_target_": "torch.optim.AdamW"}
    assert not refusal({"optimizer": adamw, "locking": {"text_encoder": {"unlocked_groups": 1}}})
    assert "trainer=ddp" in refusal({"optimizer": adamw, "locking": {"text_encoder": {"unfreeze_at_step": 4}}})
    assert "Muon works on whole parameters" in refusal({"optimizer": {"_target_": "cliplab.optim.muon.Muon"}})
    assert "optimizer.fused=false" in refusal({"optimizer": {"_target_": "torch.optim.SGD", "fused": True}})
    assert "compile=false" in refusal({"optimizer": adamw, "compile": True})
    average = {"ema": {"_target_": "cliplab.training.averaging.AverageWeights"}}
    assert "trainer=ddp" in refusal({"optimizer": adamw, "callbacks": average})
