"""Foreign weights: import after export is the identity; what does not fit is refused with a list."""

import pickle
import socket
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from cliplab.checkpoints.huggingface import write_clip_folder
from cliplab.checkpoints.open_clip import native_config, pretrained_tag, read_open_clip, to_model_cfg, write_open_clip
from cliplab.checkpoints.openai import to_openai
from cliplab.checkpoints.read import read_pretrained, wanted_files
from cliplab.checkpoints.weights import PLAIN_TRANSFORM, Weights, load_exactly
from cliplab.models import hub
from tests.models.weights import built, open_clip_twin, tiny_config

KINDS = ["vit", "resnet"]


def assert_same(weights: Weights, config: dict[str, Any], state: dict[str, Tensor]) -> None:
    assert weights.state.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(weights.state[key], value), key
    for tower in ("image_encoder", "text_encoder"):
        found = {key: weights.model[tower].get(key) for key in config[tower]}
        assert found == config[tower]
    assert weights.tokenizer["context_length"] == 77


def openai_file(path: Path, kind: str, **changes: Any) -> dict[str, Tensor]:
    config = tiny_config(kind)
    state = to_openai(config, built(config).state_dict())
    state |= {key: value for key, value in changes.items() if value is not None}
    state = {key: value for key, value in state.items() if key not in changes or changes[key] is not None}
    torch.save(state, path)
    return state


@pytest.mark.parametrize("kind", KINDS)
def test_plain_openai_file_is_read_by_convention_and_says_so(kind: str, tmp_path: Path) -> None:
    config = tiny_config(kind)
    state = built(config).state_dict()
    openai_file(tmp_path / "tiny.pt", kind, input_resolution=torch.tensor(32))
    with pytest.warns(UserWarning, match="OpenAI's convention is assumed, heads of width 64 and QuickGELU"):
        weights = read_pretrained(str(tmp_path / "tiny.pt"))
    assert_same(weights, config, state)
    assert "text_encoder.activation" in weights.assumed


@pytest.mark.parametrize("kind", KINDS)
def test_torchscript_archive_is_read_without_running_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(kind)
    model = built(config)
    twin = open_clip_twin(model, config).eval()
    size = config["image_encoder"]["image_size"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive = torch.jit.trace(
            twin.half(), (torch.zeros(2, 3, size, size).half(), torch.ones(2, 77).long()), strict=False
        )
        archive.save(tmp_path / "tiny.pt")
    monkeypatch.setattr("torch.jit.load", lambda *_, **__: pytest.fail("the archive was run"))
    with pytest.warns(UserWarning, match="OpenAI.s convention is assumed, heads of width 64;"):
        weights = read_pretrained(str(tmp_path / "tiny.pt"))
    halves = {k: v.half().float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    halves |= {key: model.state_dict()[key] for key in ("image_mean", "image_std")}
    assert_same(weights, config, halves)
    assert "text_encoder.activation" not in weights.assumed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [1, 4])
def test_open_clip_folder_comes_back(kind: str, heads: int, tmp_path: Path) -> None:
    config = tiny_config(kind, heads=heads, activation="quick_gelu") | {"image_mean": [0.5, 0.4, 0.3]}
    state = built(config).state_dict()
    write_open_clip(tmp_path, config, state)
    assert_same(read_pretrained(str(tmp_path)), config, state)


def test_open_clip_reads_our_folder(tmp_path: Path) -> None:
    config = tiny_config("vit") | {"image_std": [0.5, 0.5, 0.5]}
    model = built(config).eval()
    write_open_clip(tmp_path, config, model.state_dict())
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    images = torch.rand(2, 3, 32, 32)
    normalise = transform.transforms[-1]
    with torch.no_grad():
        expected = theirs.eval().encode_image(normalise(images), normalize=True)
        torch.testing.assert_close(model.encode_image(images), expected, rtol=1e-5, atol=1e-5)


def test_custom_text_names_and_training_checkpoints_of_open_clip(tmp_path: Path) -> None:
    config = tiny_config("vit")
    state = built(config).state_dict()
    towers = to_openai(config, state)
    own = {k if k.startswith(("visual.", "logit_scale")) else f"text.{k}": v for k, v in towers.items()}
    path = tmp_path / "epoch_1.pt"
    torch.save({"epoch": 1, "name": "run", "state_dict": {f"module.{k}": v for k, v in own.items()}}, path)
    with pytest.warns(UserWarning, match="OpenAI's convention"):
        assert_same(read_pretrained(str(path)), config, state)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_transformers_folder_comes_back(activation: str, tmp_path: Path) -> None:
    config = tiny_config("vit", activation=activation, heads=2) | {"image_mean": [0.5, 0.4, 0.3]}
    state = built(config).state_dict()
    write_clip_folder(tmp_path, config, state)
    assert_same(read_pretrained(str(tmp_path)), config, state)


def test_open_clip_folder_without_a_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 3}}')
    with pytest.raises(ValueError, match=r"open_clip_config.json: it has no whole model_cfg"):
        read_pretrained(str(tmp_path))


def test_hub_id_is_fetched_in_one_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config("vit")
    state = built(config).state_dict()
    write_clip_folder(tmp_path, config, state)
    asked: list[list[str]] = []

    def fetch(repository: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.list_repo_files", lambda name: [f.name for f in tmp_path.iterdir()])
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert_same(read_pretrained("someone/tiny"), config, state)
    assert "model.safetensors" in asked[0]
    monkeypatch.undo()  # no network, but it was fetched before

    def cached(repository: str, *, local_files_only: bool) -> str:
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    assert_same(read_pretrained("someone/tiny"), config, state)
    both = ["config.json", "model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "onnx/model.onnx"]
    assert wanted_files(both) == ["config.json", "open_clip_model.safetensors"]


def test_every_native_name_of_open_clip_has_a_config() -> None:
    native = ("ViT-B-32", "ViT-B-32-quickgelu", "ViT-L-14-336", "ViT-H-14", "ViT-bigG-14", "RN50x4-quickgelu", "RN101")
    for name in native:
        cfg = open_clip.get_model_config(name)
        config, transform, clean = native_config(cfg, {}, name)
        again, *_ = native_config(to_model_cfg(config), {}, name)
        assert (transform, clean) == (PLAIN_TRANSFORM, "lower")
        assert config == again
        assert config["text_encoder"]["activation"] == ("quick_gelu" if cfg.get("quick_gelu") else "gelu")
    assert native_config(open_clip.get_model_config("ViT-H-14"), {}, "")[0]["image_encoder"]["heads"] == 1280 // 80


def test_rounded_mlp_ratio_of_a_name_fits_the_file() -> None:
    """ViT-bigG-14 says 4.9231 where the file has 8192 / 1664."""
    cfg = open_clip.get_model_config("ViT-bigG-14")
    cfg["vision_cfg"]["layers"] = cfg["text_cfg"]["layers"] = 1
    with torch.device("meta"):
        state = open_clip.CLIP(**cfg).state_dict()
    assert read_open_clip(cfg, {}, state, "").state["image_encoder.blocks.0.mlp_in.weight"].shape == (8192, 1664)
    cfg["vision_cfg"]["mlp_ratio"] = 4.95
    with pytest.raises(ValueError, match=r"image_encoder.mlp_ratio is 8236 by its name and 8192 in the file"):
        read_open_clip(cfg, {}, state, "")


def test_a_named_file_is_checked_against_the_name(tmp_path: Path) -> None:
    openai_file(tmp_path / "tiny.pt", "vit")
    with pytest.raises(ValueError, match=r"image_encoder.image_size is 224 by its name and 32 in the file; .*width"):
        read_pretrained(f"open_clip:ViT-B-32:{tmp_path / 'tiny.pt'}")


def _evil(path: Path) -> None:
    torch.save({"state_dict": pytest.fail}, path)


def _evil_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/code/a.py", "")
        archive.writestr("x/data.pkl", pickle.dumps(eval))


def _damaged_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/code/a.py", "")
        archive.writestr("x/data.pkl", b"long enough to be damaged" * 20)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"damaged", b"DAMAGED", 3))


def _cut(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 not a whole file")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.pt", _evil, "refused, since loading it could run any code .it asks for _pytest.outcomes"),
        ("a.pt", _evil_archive, "needs more than tensors to load .builtins.eval"),
        ("a.pt", _damaged_archive, "this TorchScript archive is damaged .Bad CRC"),
        ("a.pt", lambda p: torch.save(7, p), "there is no state dict in it"),
        ("a.pt", _cut, "this is not a whole file of weights|it is not a file of weights"),
        ("a.safetensors", _cut, "this is not a whole safetensors file"),
        ("a.pt", lambda p: torch.save({"x": 1}, p), "there is no state dict"),
        ("a.pt", lambda p: torch.save({"a.weight": torch.ones(1)}, p), "no CLIP model is known by the keys a.weight"),
        ("a.bin", lambda p: torch.save({"visual.trunk.x": torch.ones(1)}, p), "around a timm tower; name its architec"),
        ("a-00001-of-00002.bin", lambda p: torch.save({"vision_model.x": torch.ones(1)}, p), "name the folder"),
        ("a.pt", lambda p: openai_file(p, "vit", **{"ln_final.bias": None}), "missing: ln_final.bias$"),
        ("a.pt", lambda p: openai_file(p, "vit", surplus=torch.ones(1)), "not known: surplus$"),
        ("a.pt", lambda p: openai_file(p, "vit", **{"ln_final.weight": None}), "missing: ln_final.weight"),
        ("a.pt", lambda p: openai_file(p, "vit", **{"token_embedding.weight": torch.ones(9, 64)}), "9 entries is not"),
    ],
)
def test_bad_file_is_refused_with_the_reason(
    name: str, write: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message) as caught:
        read_pretrained(str(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.pt", "neither a file nor a folder"),
        ("open_clip:ViT-B-32", "write open_clip:<model name>:<file or tag>"),
        ("open_clip:ViT-B-33:x.pt", "no model 'ViT-B-33'; close to it are .*ViT-B-32"),
        ("open_clip:ViT-B-32:laion9b", "neither a file nor a tag .*laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32:openai", "trained with QuickGELU but ViT-B-32 has GELU; use open_clip:ViT-B-32-quickgelu"),
        ("someone/nothing", "cannot be reached.*download it and name the folder"),
    ],
)
def test_wrong_name_is_told(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pretrained(spec)


def test_tag_is_downloaded_by_open_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("open_clip.pretrained.download_pretrained", lambda facts: str(tmp_path / facts["hf_hub"]))
    path, facts = pretrained_tag("ViT-B-32", "laion2b_s34b_b79k")
    assert path == tmp_path / "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    assert facts["resize_mode"] == "shortest"


def test_a_tag_that_is_an_address_is_waited_for_no_longer_than_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The weights are asked for once, then those that were fetched before are read without asking."""
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.socket() as server:  # it takes connections and never says a word
        server.bind(("127.0.0.1", 0))
        server.listen(20)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/weights/ViT-B-32.pt"
        facts = {"url": address, "mean": (0.5, 0.5, 0.5)}
        monkeypatch.setattr("open_clip.pretrained.get_pretrained_cfg", lambda name, tag: facts)
        start = time.monotonic()
        told = rf"fetched \({address} .*\); download {address} .*name the file: pretrained=open_clip:ViT-B-32:<file>"
        with pytest.raises(ValueError, match=rf"^open_clip:ViT-B-32:some: .*{told}$") as raised:
            read_pretrained("open_clip:ViT-B-32:some")
        assert time.monotonic() - start < 2
        assert str(raised.value).count("does not answer") + str(raised.value).count("cannot be reached") == 1
        assert not (tmp_path / ".cache").exists(), "nothing half is left"
        monkeypatch.setattr(hub, "silence_of", lambda address: None)
        monkeypatch.setattr("cliplab.checkpoints.open_clip.silence_of", lambda address: None)
        start = time.monotonic()
        with pytest.raises(ValueError, match="timed out"):  # it answered, and then no more
            read_pretrained("open_clip:ViT-B-32:some")
        assert time.monotonic() - start < 2
        assert socket.getdefaulttimeout() is None
    kept = tmp_path / ".cache" / "clip" / "ViT-B-32.pt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"weights")
    monkeypatch.setattr("cliplab.checkpoints.open_clip.silence_of", lambda address: pytest.fail("asked"))
    assert pretrained_tag("ViT-B-32", "some") == (kept, facts)


def test_load_lists_everything_that_does_not_fit() -> None:
    model = built(tiny_config("vit"))
    state = dict(model.state_dict())
    before = state["logit_scale"].clone()
    state["logit_scale"] = torch.ones(2)
    state["more"] = state.pop("image_mean")
    with pytest.raises(
        ValueError,
        match=r"file.pt does not fit the model; missing: image_mean; not known: more; other shapes: logit_scale \(\[2\]",
    ):
        load_exactly(model, state, "file.pt")
    assert torch.equal(model.logit_scale, before)
