"""Each optimizer of the configs: fits any experiment, trains on named groups, goes on to the same bits, tells its key."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from cliplab.assembly.training_checks import check_optimizer
from cliplab.cli.places import config_dir
from cliplab.models.clip import CLIP
from cliplab.models.encoders import LayeredModule
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.vision_transformer import VisionTransformer
from cliplab.optim.locking import Locking, TowerLock
from cliplab.optim.param_groups import build_optimizer, parameter_groups
from cliplab.settings.build import build
from cliplab.settings.check_targets import check, check_sources
from cliplab.settings.config import ConfigError, base_config, resolved

OPTIMIZERS = sorted(file.stem for file in (config_dir() / "optimizer").glob("*.yaml"))


def node(*typed: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return resolved(compose("config", overrides=["paths.run=run", *typed]))["optimizer"]


def small() -> CLIP:
    torch.manual_seed(0)
    image = VisionTransformer(image_size=16, patch_size=8, width=8, layers=2, heads=2, output_dim=4)
    text = TextTransformer(vocab_size=50, context_length=8, width=8, layers=1, heads=2, output_dim=4)
    return CLIP(image, text, embed_dim=4)


def optimizer_of(model: CLIP, settings: dict[str, Any], locking: Locking | None = None) -> torch.optim.Optimizer:
    scales = {model.text_encoder.projection: 0.5} if locking is None else locking.lr_scales()
    frozen = locking.frozen_for_now() if locking else ()
    groups = parameter_groups(model, LayeredModule(), lr_scales=scales, frozen_for_now=frozen)
    return build_optimizer(build(settings, "optimizer"), groups)


def step(model: CLIP, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        gradient = torch.randn(p.shape, generator=generator)
        p.grad = gradient if p.requires_grad else None
    optimizer.step()


@pytest.mark.parametrize("choice", OPTIMIZERS)
def test_an_optimizer_swaps_beside_a_paper_experiment(choice: str) -> None:
    """What is typed holds, vectors do not decay, a group trains at its share of the rate, and every parameter moves."""
    settings = node("experiment=vit_b32", f"optimizer={choice}", "optimizer.lr=0.01", "optimizer.weight_decay=0.3")
    check({"optimizer": settings}, base_config(config_dir()))
    check_optimizer(settings)
    model = small()
    optimizer = optimizer_of(model, settings)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.01 * (0.5 if group["name"].endswith("@0.5") else 1))
        assert group["weight_decay"] == (0 if group["role"] == "vectors" else 0.3)
    before = [p.detach().clone() for p in model.parameters()]
    step(model, optimizer, 1)
    step(model, optimizer, 2)
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


LOCKS = {
    "image_encoder": TowerLock(unlocked_groups=2, unfreeze_at_step=2, layer_decay=0.5),
    "text_encoder": TowerLock(unlocked_groups=1, lr_multiplier=0.1),
}


class Training:
    """A model with layer-wise rates, a lock that opens after two steps and one that stays, and a warm-up."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.model = small()
        self.locking = Locking(self.model, LayeredModule(), LOCKS)
        self.locking.apply(0)
        self.optimizer = optimizer_of(self.model, settings, self.locking)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / 3))

    def run(self, first: int, end: int) -> None:
        for number in range(first, end):
            self.locking.apply(number)
            step(self.model, self.optimizer, number)
            self.schedule.step()


@pytest.mark.parametrize("choice", OPTIMIZERS)
@pytest.mark.parametrize("stop", [1, 3])
def test_training_that_was_stopped_goes_on_to_the_same_bits(choice: str, stop: int, tmp_path: Path) -> None:
    settings = node(f"optimizer={choice}")
    whole, stopped, resumed = Training(settings), Training(settings), Training(settings)
    start = {name: p.detach().clone() for name, p in whole.model.named_parameters()}
    whole.run(0, 5)
    stopped.run(0, stop)
    parts = ("model", "optimizer", "schedule")
    torch.save({name: getattr(stopped, name).state_dict() for name in parts}, tmp_path / "saved")
    saved = torch.load(tmp_path / "saved", weights_only=True)
    for name in parts:
        getattr(resumed, name).load_state_dict(saved[name])
    resumed.run(stop, 5)
    for name, p in resumed.model.named_parameters():
        assert torch.equal(p, whole.model.get_parameter(name)), name
        locked = name.startswith("text_encoder.") and not name.endswith("projection")
        assert torch.equal(p, start[name]) == locked, name
    for one, other in zip(whole.optimizer.param_groups, resumed.optimizer.param_groups, strict=True):
        assert {k: v for k, v in one.items() if k != "params"} == {k: v for k, v in other.items() if k != "params"}
        for p, twin in zip(one["params"], other["params"], strict=True):
            states = (whole.optimizer.state[p], resumed.optimizer.state[twin])
            assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(states[1][k])) for k, v in states[0].items())


def test_rates_are_the_usual_multiples_of_the_rate_for_adamw() -> None:
    def rates(*typed: str) -> tuple[float, float]:
        settings = node(*typed)
        return settings["lr"], settings["weight_decay"]

    assert rates("experiment=emoji") == (2e-3, 0.2)
    assert rates("experiment=emoji", "optimizer=lion") == (4e-4, 1.0)
    assert rates("experiment=vit_l14_336", "optimizer=lion", "adamw_weight_decay=0.1") == (4e-6, 0.5)
    assert rates("experiment=vit_b32", "optimizer=lamb", "adamw_lr=1e-3") == (5e-3, 0.02)
    assert rates("experiment=vit_b32", "optimizer=lion", "optimizer.lr=1e-3") == (1e-3, 1.0), "typed"
    assert rates("experiment=vit_b32", "optimizer=sgd") == (0.1, 1e-4), "its rate is no multiple of AdamW's"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["optimizer=adan", "optimizer.betas=[0.9,0.99]"], r"\[0.9, 0.99\] must be 0 or more and below 1, 3 of them"),
        (["optimizer=lion", "optimizer.betas=[0.9,0.9,0.9]"], r".* must be 0 or more and below 1, 2 of them"),
        (["optimizer=lion", "+optimizer.eps=1e-6"], "timm.optim.Lion takes no argument 'eps'"),
        (["optimizer=lamb", "+optimizer.fused=true"], "timm.optim.Lamb takes no argument 'fused'"),
    ],
)
def test_what_an_optimizer_does_not_take_is_told_before_anything_is_imported(typed: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^optimizer\.\w+: {message}"):
        check_sources({"optimizer": node(*typed)}, base_config(config_dir()))


def test_experiments_leave_the_settings_of_one_optimizer_to_its_config() -> None:
    for file in (config_dir() / "experiment").glob("*.yaml"):
        text = file.read_text(encoding="utf8")
        assert not any(f"  {key}:" in text for key in ("betas", "eps", "fused", "momentum", "lr")), file.name


def test_muon_is_for_the_matrices_of_inner_layers_alone() -> None:
    model = small()
    optimizer = optimizer_of(model, node("optimizer=muon"))
    step(model, optimizer, 1)
    names = {id(p): name for name, p in model.named_parameters()}
    by_muon = {names[id(p)] for p, state in optimizer.state.items() if "exp_avg" not in state}
    parts = ("attention.qkv.weight", "attention.out.weight", "mlp_in.weight", "mlp_out.weight")
    assert by_muon == {name for name in names.values() if ".blocks." in name and name.endswith(parts)}


def test_muon_orthogonalises_each_matrix_and_leaves_the_rest_to_adamw() -> None:
    model, plain = small(), small()
    settings = node("optimizer=muon", "optimizer.lr=0.05", "optimizer.ns_steps=5")
    optimizer = optimizer_of(model, settings)
    adamw = torch.optim.AdamW(plain.parameters(), lr=0.05, betas=(0.9, 0.98), eps=1e-7, weight_decay=0, fused=True)
    for group in optimizer.param_groups:
        group |= {"weight_decay": 0, "lr": 0.05}
    for p, twin in zip(model.parameters(), plain.parameters(), strict=True):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()), dtype=p.dtype)
        twin.grad = p.grad.clone()
    optimizer.step()
    adamw.step()
    for (name, p), before, twin in zip(model.named_parameters(), small().parameters(), plain.parameters(), strict=True):
        if "momentum_buffer" not in optimizer.state[p]:
            assert torch.equal(p, twin), name
            continue
        step = (before - p).detach() / (0.1 * 0.2 * max(p.shape) ** 0.5)
        values = torch.linalg.svdvals(step)
        assert float(values.min()) > 0.6, (name, values)
        assert float(values.max()) < 1.3, (name, values)
        left, _, right = torch.linalg.svd(p.grad, full_matrices=False)  # the first step: momentum is along the gradient
        assert float((step * (left @ right)).sum() / (step.norm() * (left @ right).norm())) > 0.98, name


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            ["optimizer=adamw", "optimizer.betas=[0.9]"],
            r"optimizer.betas: torch.optim.AdamW refuses \[0.9\]: IndexError",
        ),
        (["optimizer=sgd", "optimizer.momentum=0"], "optimizer.nesterov: .* Nesterov momentum requires a momentum"),
        (["optimizer=sgd", "optimizer.momentum=-1"], "optimizer.momentum: .* refuses -1: Invalid momentum value: -1"),
        (["optimizer=adafactor", "optimizer.d=0.5"], "optimizer.d: torch.optim.Adafactor refuses 0.5: Clipping"),
        (
            ["optimizer=mars", "optimizer.mars_type=sgd"],
            "optimizer.mars_type: timm.optim.Mars refuses 'sgd': AssertionError",
        ),
        (["optimizer=lamb", "optimizer.eps=-1"], "optimizer.eps: timm.optim.Lamb refuses -1: Invalid epsilon: -1"),
        (["optimizer=muon", "optimizer.eps=-1"], "optimizer.eps: cliplab.optim.muon.Muon refuses -1"),
    ],
)
def test_a_setting_that_the_optimizer_refuses_is_told_by_its_key(typed: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_optimizer(node(*typed))
