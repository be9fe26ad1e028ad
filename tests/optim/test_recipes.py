"""Each optimizer of the configs: fits any experiment, trains on named groups, goes on to the same bits, tells its key."""

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
from cliplab.optim.param_groups import build_optimizer, parameter_groups
from cliplab.settings.build import build
from cliplab.settings.check_targets import check
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


def optimizer_of(model: CLIP, settings: dict[str, Any]) -> torch.optim.Optimizer:
    scales = {model.text_encoder.projection: 0.5}
    return build_optimizer(build(settings, "optimizer"), parameter_groups(model, LayeredModule(), lr_scales=scales))


def step(model: CLIP, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("choice", OPTIMIZERS)
def test_an_optimizer_swaps_beside_a_paper_experiment_and_resumes_to_the_bit(choice: str) -> None:
    settings = node("experiment=vit_b32", f"optimizer={choice}", "optimizer.lr=0.01")
    assert (settings["lr"], settings["weight_decay"]) == (0.01, 0.2), "the experiment's decay, the rate that was typed"
    check({"optimizer": settings}, base_config(config_dir()))
    check_optimizer(settings)
    whole, stopped = small(), small()
    optimizer, first = optimizer_of(whole, settings), optimizer_of(stopped, settings)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.01 * (0.5 if group["name"].endswith("@0.5") else 1))
        assert group["weight_decay"] == (0 if group["role"] == "vectors" else 0.2)
    before = [p.detach().clone() for p in whole.parameters()]
    step(whole, optimizer, 1)
    step(whole, optimizer, 2)
    assert not any(torch.equal(p, old) for p, old in zip(whole.parameters(), before, strict=True))
    step(stopped, first, 1)
    resumed = optimizer_of(stopped, settings)
    resumed.load_state_dict(first.state_dict())
    step(stopped, resumed, 2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), stopped.parameters(), strict=True))


def test_experiments_leave_the_settings_of_one_optimizer_to_its_config() -> None:
    for file in (config_dir() / "experiment").glob("*.yaml"):
        text = file.read_text(encoding="utf8")
        assert not any(f"  {key}:" in text for key in ("betas", "eps", "fused", "momentum")), file.name


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
        (["optimizer=muon", "optimizer.eps=-1"], "optimizer.eps: cliplab.optim.muon.Muon refuses -1"),
    ],
)
def test_a_setting_that_the_optimizer_refuses_is_told_by_its_key(typed: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_optimizer(node(*typed))
