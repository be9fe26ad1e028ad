"""Files as they come: wrapped, cut, replaced by something else, full of NaN."""

import codecs
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

import cliplab
from cliplab.checkpoints.huggingface import write_clip_folder
from cliplab.checkpoints.openai import to_openai
from cliplab.checkpoints.read import read_pretrained
from cliplab.settings.build import build
from tests.checkpoints.folders import clip_folder, siglip_folder
from tests.models.weights import built, tiny_config

CONFIG = tiny_config("vit")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return to_openai(CONFIG, built(CONFIG).state_dict())


def prefixed(prefix: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda state: {prefix + key: value for key, value in state.items()}


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "compiled": prefixed("_orig_mod."),
    "distributed": prefixed("module."),
    "compiled, then distributed": prefixed("module._orig_mod."),
    "a module around it": prefixed("model."),
    "several": prefixed("model.module._orig_mod.clip."),
    "compiled inside": lambda s: {k.replace("visual.", "visual._orig_mod."): v for k, v in s.items()},
    "model_state_dict": lambda s: {"epoch": 3, "model_state_dict": s, "optimizer": {"lr": 0.1}},
    "state_dict": lambda s: {"state_dict": prefixed("module.")(s), "epoch": 3},
    "model": lambda s: {"model": s},
    "nested": lambda s: {"checkpoint": 1, "model": {"state_dict": prefixed("_orig_mod.")(s)}},
    "an average alone": lambda s: {"state_dict_ema": s, "epoch": 3},
    "an average beside": lambda s: {"model": s, "ema": {k: v + 1 if v.ndim else v for k, v in s.items()}},
    "torch's average": lambda s: prefixed("module.")(s) | {"n_averaged": torch.tensor(7)},
    "half": lambda s: {k: v.half() for k, v in s.items()},
    "bfloat16": lambda s: {"model": {k: v.bfloat16() for k, v in s.items()}},
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.filterwarnings("ignore:.*OpenAI's convention")
def test_wrapped_weights_are_understood(how: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(WRAPPED[how](state), tmp_path / "tiny.pt")
    found = read_pretrained(str(tmp_path / "tiny.pt")).state
    tolerance = 2e-2 if how in ("half", "bfloat16") else 0
    for key, value in built(CONFIG).state_dict().items():
        assert torch.allclose(found[key], value, rtol=tolerance, atol=tolerance), key
        assert found[key].dtype == value.dtype


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.bin"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "a pointer of Git LFS .* git lfs pull"),
        (b"<!DOCTYPE html><html>log in</html>", "it is a web page"),
        (b"\n <html>", "it is a web page"),
        (b"", "the file is empty"),
    ],
)
def test_something_else_in_the_place_of_weights_is_named(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path / name}: this is not a file of weights: .*{message}"):
        read_pretrained(str(tmp_path / name))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad: float, state: dict[str, Tensor], tmp_path: Path) -> None:
    broken = {key: value.clone() for key, value in state.items()} | {"attn_mask": torch.full((2, 2), -torch.inf)}
    broken["visual.ln_pre.weight"][3] = bad
    save_file(broken, tmp_path / "tiny.safetensors")
    with pytest.raises(ValueError, match=r"tiny.safetensors: weights are NaN or infinity in visual.ln_pre.weight;"):
        read_pretrained(str(tmp_path / "tiny.safetensors"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    write_clip_folder(path, CONFIG, built(CONFIG).state_dict())
    return path


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_byte_order_mark_does_not_matter(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "marked")
    file = tmp_path / "marked" / name
    if not file.is_file():
        assert name == "preprocessor_config.json"
        file = tmp_path / "marked" / "processor_config.json"
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    plain, marked = (read_pretrained(str(path)) for path in (folder, tmp_path / "marked"))
    assert (marked.model, marked.transform) == (plain.model, plain.transform)
    texts = ["a photo of a cat"]
    ids = [build({**w.tokenizer}, "tokenizer")(texts).ids.tolist() for w in (plain, marked)]
    assert ids[0] == ids[1]


def test_an_adapter_is_named_with_the_way_to_merge_it(state: dict[str, Tensor], tmp_path: Path) -> None:
    lora = {"base_model.model.vision_model.q_proj.lora_A.weight": torch.zeros(2, 8)}
    save_file(lora, tmp_path / "adapter_model.safetensors")
    way = r"an adapter of PEFT for .*, not a whole model; merge it first, .*merge_and_unload\(\)"
    with pytest.raises(ValueError, match=f"^{tmp_path}/adapter_model.safetensors: this is {way}"):
        read_pretrained(str(tmp_path / "adapter_model.safetensors"))
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "openai/clip-vit-base-patch32"}')
    with pytest.raises(ValueError, match=f"^{tmp_path}: this is {way}") as caught:
        read_pretrained(str(tmp_path))
    assert "from_pretrained('openai/clip-vit-base-patch32')" in str(caught.value)


def _shards(folder: Path, names: Any) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(names))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "config.json").write_text('{"model_type": "clip",'),
            "config.json: this is not JSON .Expecting",
        ),
        (lambda f: (f / "config.json").write_bytes(b"version https://git-lfs.x\n"), "config.json: .*Git LFS"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json: it must be a JSON object, not a list"),
        (lambda f: (f / "config.json").write_text('{"model_type": "blip"}'), "config.json: model_type is 'blip'"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json: this is not JSON .*decode"),
        (lambda f: _cut(f / "model.safetensors"), "model.safetensors: this is not a whole safetensors file"),
        (
            lambda f: (f / "model.safetensors").unlink(),
            "neither model.safetensors nor pytorch_model.bin .*; fetch it again",
        ),
        (
            lambda f: (f / "model.safetensors").rename(f / "model.fp16.safetensors"),
            "neither model.safetensors nor .*; it has model.fp16.safetensors: save or convert it under",
        ),
        (lambda f: (f / "config.json").unlink(), "put it in a folder as model.safetensors .*, with its config.json"),
        (
            lambda f: _shards(f, {"weight_map": {"a": "model-1.safetensors"}}),
            "index.json: it names files that are missing: model-1.safetensors",
        ),
        (lambda f: _shards(f, {"metadata": {}}), "index.json: it has no weight_map"),
        (lambda f: (f / "processor_config.json").write_text("{"), "processor_config.json: this is not JSON"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "cannot be read"),
    ],
)
def test_damaged_folder_is_told_with_the_file(
    damage: Callable[[Path], Any], message: str, folder: Path, tmp_path: Path
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damage(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        read_pretrained(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def test_whole_numbers_are_no_weights(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Quantised weights would be copied into floats without a word."""
    import cliplab

    torch.save({**state, "ln_final.weight": state["ln_final.weight"].to(torch.int8)}, tmp_path / "a.pt")
    with (
        pytest.warns(UserWarning, match="OpenAI's convention"),
        pytest.raises(ValueError, match=re.escape("not floating point: text_encoder.ln_final.weight (torch.int8")),
    ):
        cliplab.load(str(tmp_path / "a.pt"), device="cpu")


def test_sizes_that_do_not_divide_are_told(state: dict[str, Tensor], tmp_path: Path) -> None:
    narrow = tiny_config("vit") | {}
    narrow["text_encoder"] = {**narrow["text_encoder"], "width": 96, "heads": 2}
    torch.save(to_openai(narrow, built(narrow).state_dict()), tmp_path / "a.pt")
    assert read_pretrained.__doc__
    weights = None
    with pytest.warns(UserWarning, match="heads of width 64"):
        weights = read_pretrained(str(tmp_path / "a.pt"))
    assert weights.model["text_encoder"]["heads"] == 1
    narrow["text_encoder"] = {**narrow["text_encoder"], "width": 32, "heads": 2}
    torch.save(to_openai(narrow, built(narrow).state_dict()), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a.pt: text_encoder: width 32 is not a multiple of heads 0"):
        read_pretrained(str(tmp_path / "a.pt"))


def test_a_file_of_a_folder_points_to_the_folder(folder: Path) -> None:
    for name, message in (("config.json", "name the folder it is in: "), ("model.safetensors", "name the folder ")):
        with pytest.raises(ValueError, match=message + re.escape(str(folder))):
            read_pretrained(str(folder / name))


@pytest.mark.parametrize("make", [clip_folder, siglip_folder])
def test_a_word_added_beyond_the_models_vocabulary_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make(tmp_path))
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tokenizer_config.json: its tokens go up to number 15, .* vocab_size is 15"):
        cliplab.load(str(tmp_path), device="cpu")


@pytest.mark.parametrize(("tower", "other"), [("text_model", "vision_model"), ("vision_model", "text_model")])
@pytest.mark.parametrize("folder", [True, False])
def test_one_tower_alone_is_told(folder: bool, tower: str, other: str, tmp_path: Path) -> None:
    file = clip_folder(tmp_path) / "model.safetensors"
    save_file({key: value for key, value in load_file(file).items() if not key.startswith(other)}, file)
    with pytest.raises(ValueError, match=rf"it holds one tower alone, {tower}; weights with {other} in them, too, are"):
        read_pretrained(str(tmp_path if folder else file))
