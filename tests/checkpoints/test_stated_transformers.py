"""A setting that a folder of transformers states is used, or refused by file and name; it is never ignored."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from transformers import AutoTokenizer

import cliplab
from cliplab.checkpoints.huggingface import write_clip_folder
from cliplab.data.tokenizers import CLIPTokenizer
from tests.checkpoints.folders import (
    TEXTS,
    clip_folder,
    edit,
    pictures,
    siglip_folder,
    transformers_features,
    word_tokenizer,
)
from tests.models.weights import built, tiny_config

CONFIG, PROCESSOR, TOKENIZER = "config.json", "preprocessor_config.json", "tokenizer_config.json"
BASE = {"clip": clip_folder, "siglip": siglip_folder}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in BASE.items()}


def changed(base: Path, folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    shutil.copytree(base, folder, dirs_exist_ok=True)
    for file, values in changes.items():
        if file == TOKENIZER:
            word_tokenizer(folder, **values)
        else:
            edit(folder / file, values)
    return folder


def our_features(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    model = cliplab.load(str(folder), device="cpu", progress=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*texts cut")
        return model.embed_images(pictures()), model.embed_texts(TEXTS)


def of(file: str, **values: Any) -> dict[str, dict[str, Any]]:
    return {file: {key.replace("__", "."): value for key, value in values.items()}}


CROPPED = {"do_center_crop": True, "crop_size": 32}
PICTURES = {
    "short side before the crop": of(PROCESSOR, size={"shortest_edge": 40}, **CROPPED),
    "an odd rest": of(PROCESSOR, size={"shortest_edge": 37}, **CROPPED),
    "smaller than the crop": of(PROCESSOR, size={"shortest_edge": 25}, **CROPPED),
    "a number for the size": of(PROCESSOR, size=40, **CROPPED),
    "two numbers for the size": of(PROCESSOR, size=[40, 36], **CROPPED),
    "squashed": of(PROCESSOR, size={"height": 32, "width": 32}, do_center_crop=False),
    "not resized": of(PROCESSOR, do_resize=False, do_center_crop=True, crop_size={"height": 32, "width": 32}),
    "bilinear": of(PROCESSOR, resample=2),
    "nearest": of(PROCESSOR, resample=0),
    "lanczos": of(PROCESSOR, resample=1),
    "mean and deviation": of(PROCESSOR, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]),
    "not normalised": of(PROCESSOR, do_normalize=False),
    "rescaled otherwise": of(PROCESSOR, rescale_factor=1 / 127.5),
    "not rescaled": of(PROCESSOR, do_rescale=False, image_mean=[120.0] * 3, image_std=[60.0] * 3),
    "a class of the other family": of(PROCESSOR, image_processor_type="SiglipImageProcessorFast"),
    # What a file leaves out is the library's default, and not the tower's size; a step that is null is off.
    "no size": of(PROCESSOR, size=..., **CROPPED),
    "no rescaling and no mean": of(PROCESSOR, do_rescale=None, rescale_factor=None, do_normalize=None, image_mean=None),
    "not resized, by null": of(PROCESSOR, do_resize=None, size=None, resample=None, **CROPPED),
    "null where there is no effect": of(PROCESSOR, default_to_square=None, do_convert_rgb=None, do_pad=None),
    "as diffusers saves it": of(
        PROCESSOR, image_processor_type="CLIPFeatureExtractor", use_square_size=False, size={"height": 32, "width": 32},
        crop_size={"height": 32, "width": 32}, do_center_crop=True, _valid_processor_keys=["images", "size"],
    ),
    "all at once": of(
        PROCESSOR, size={"shortest_edge": 41}, do_center_crop=True, crop_size=32, resample=2, rescale_factor=0.01,
        image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6],
    ),
}  # fmt: skip
TOWERS = {
    "as written": {},
    "activations": of(CONFIG, vision_config__hidden_act="gelu", text_config__hidden_act="gelu_new"),
    "quick gelu": of(CONFIG, vision_config__hidden_act="quick_gelu", text_config__hidden_act="quick_gelu"),
    "tanh": of(CONFIG, vision_config__hidden_act="gelu_pytorch_tanh", text_config__hidden_act="gelu_fast"),
    "epsilons": of(CONFIG, vision_config__layer_norm_eps=0.3, text_config__layer_norm_eps=0.2),
    "heads": of(CONFIG, vision_config__num_attention_heads=4, text_config__num_attention_heads=8),
    "training only": of(CONFIG, vision_config__attention_dropout=0.4, text_config__attention_dropout=0.5)
    | of(CONFIG, initializer_factor=3.0),
}
TEXT = {
    "shorter texts": of(TOKENIZER, model_max_length=6),
    "cut at the left": of(TOKENIZER, model_max_length=6, truncation_side="left"),
    "another padding": of(TOKENIZER, pad_token="</s>"),
    "no length": of(TOKENIZER, model_max_length=10**30),
}
REFUSED = {
    "CONFIG vision_config.hidden_act is 'relu'": of(CONFIG, vision_config__hidden_act="relu"),
    "CONFIG text_config.hidden_act is 'silu'": of(CONFIG, text_config__hidden_act="silu"),
    "CONFIG vision_config.num_channels is 4": of(CONFIG, vision_config__num_channels=4),
    "CONFIG vision_config.image_size is": of(CONFIG, vision_config__image_size=[32, 40]),
    "CONFIG vision_config.rotary is True": of(CONFIG, vision_config__rotary=True),
    "CONFIG quantization_config is": of(CONFIG, quantization_config={"load_in_8bit": True}),
    "CONFIG auto_map is": of(CONFIG, auto_map={"AutoModel": "modeling.Model"}),
    "CONFIG .* not a multiple|CONFIG .*divisible by num_heads|image_encoder: width 32 is not a multiple of heads 3": of(
        CONFIG, vision_config__num_attention_heads=3
    ),
    "CONFIG vision_config.pruned_heads": of(CONFIG, vision_config__pruned_heads={"0": [1]}),
    "PROCESSOR size is": of(PROCESSOR, size={"shortest_edge": 32, "longest_edge": 64}),
    "PROCESSOR crop_size is .*image_size 32": of(PROCESSOR, do_center_crop=True, crop_size=24),
    "PROCESSOR size is .*square without do_center_crop": of(
        PROCESSOR, size={"shortest_edge": 32}, do_center_crop=False
    ),
    "PROCESSOR do_resize is False": of(PROCESSOR, do_resize=False, do_center_crop=False),
    "PROCESSOR size is {.*224.*takes pictures of image_size 32; the file leaves it out|PROCESSOR size is {.*square": of(
        PROCESSOR, size=..., do_center_crop=None
    ),
    "PROCESSOR crop_size is .*transformers then takes|PROCESSOR crop_size is None; with do_center_crop": of(
        PROCESSOR, size={"shortest_edge": 40}, do_center_crop=True, crop_size=...
    ),
    "PROCESSOR size is None; do_resize needs a value": of(PROCESSOR, size=None, **CROPPED),
    "PROCESSOR resample is None; do_resize": of(PROCESSOR, resample=None),
    "PROCESSOR rescale_factor is None; do_rescale": of(PROCESSOR, rescale_factor=None),
    "PROCESSOR image_mean is None; do_normalize": of(PROCESSOR, image_mean=None),
    "PROCESSOR crop_size is None; do_center_crop": of(PROCESSOR, do_center_crop=True, crop_size=None),
    "PROCESSOR resample is 9": of(PROCESSOR, resample=9),
    "PROCESSOR image_std is": of(PROCESSOR, image_std=[0.5, 0.0, 0.5]),
    "PROCESSOR do_pad is True": of(PROCESSOR, do_pad=True),
    "PROCESSOR image_processor_type is 'ViTImageProcessor'": of(PROCESSOR, image_processor_type="ViTImageProcessor"),
    "PROCESSOR do_tile is True": of(PROCESSOR, do_tile=True),
    "PROCESSOR do_resize is 'yes'": of(PROCESSOR, do_resize="yes"),
    "TOKENIZER: its tokens go up to number 14, and the model's vocab_size is 12": of(
        CONFIG, text_config__vocab_size=12
    ),
}
OF_ONE = {
    ("clip", "TOKENIZER: padding_side is 'left'"): of(TOKENIZER, padding_side="left"),
    ("clip", "CONFIG: text_config.eos_token_id is 7 and the tokenizer ends texts with 1"): of(
        CONFIG, text_config__eos_token_id=7
    ),
    ("clip", "CONFIG: text_config.eos_token_id is 2 and"): of(CONFIG, text_config__eos_token_id=2),
    ("siglip", "CONFIG vision_config.vision_use_head is False"): of(CONFIG, vision_config__vision_use_head=False),
    ("siglip", "CONFIG text_config.projection_size is 24"): of(CONFIG, text_config__projection_size=24),
    ("siglip", "TOKENIZER it states no pad_token"): of(TOKENIZER, pad_token=None),
}
CASES = {**PICTURES, **TOWERS, **TEXT}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", BASE)
def test_features_are_those_of_the_library(family: str, case: str, bases: dict[str, Path], tmp_path: Path) -> None:
    folder = changed(bases[family], tmp_path, CASES[case])
    for theirs, ours in zip(transformers_features(folder), our_features(folder), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize(
    ("family", "message", "changes"),
    [(family, *case) for family in BASE for case in REFUSED.items()]
    + [(family, message, changes) for (family, message), changes in OF_ONE.items()],
)
def test_what_cannot_be_followed_is_refused_by_file_and_field(
    family: str, message: str, changes: dict[str, Any], bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = changed(bases[family], tmp_path, changes)
    for name, file in (("CONFIG", CONFIG), ("PROCESSOR", PROCESSOR), ("TOKENIZER", TOKENIZER)):
        message = message.replace(f"{name} ", f"/{file}: ").replace(f"{name}:", f"/{file}:")
    with pytest.raises(ValueError, match=message):
        cliplab.load(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (
            "siglip2",
            r"NaFlex .* fixed size, such as google/siglip2-base-patch16-224 .* or open_clip:ViT-B-16-SigLIP2:webli",
        ),
        ("siglip_vision_model", "one tower alone; clip and siglip can be read"),
        ("blip", "clip and siglip can be read .*open_clip's folders"),
    ],
)
def test_another_model_is_refused_with_what_can_be_used(kind: str, told: str, tmp_path: Path) -> None:
    edit(tmp_path / CONFIG, {"model_type": kind})
    with pytest.raises(ValueError, match=rf"^{tmp_path / CONFIG}: model_type is '{kind}'; .*{told}"):
        cliplab.load(str(tmp_path), device="cpu")


def test_padding_before_the_text_is_siglips_too(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = changed(bases["siglip"], tmp_path, of(TOKENIZER, padding_side="left"))
    np.testing.assert_allclose(our_features(folder)[1], transformers_features(folder)[1], atol=2e-5)


@pytest.mark.parametrize("family", BASE)
def test_lengths_fixed_in_the_tokenizers_file_are_the_librarys_defaults_and_no_part_of_a_text(
    family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = changed(bases[family], tmp_path, {})
    fixed = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
    cut = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    edit(
        folder / "tokenizer.json",
        {"padding": {**fixed, "pad_type_id": 0, "pad_token": "<pad>"}, "truncation": cut},
    )
    np.testing.assert_allclose(our_features(folder)[1], transformers_features(folder)[1], atol=2e-5)


@pytest.mark.parametrize("kind", ["Siglip2Tokenizer", "GemmaTokenizer"])
def test_siglip_2_is_lower_case_only_where_its_tokenizer_says_so(
    kind: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = changed(bases["siglip"], tmp_path, {})
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"aAphot.!"]
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    tokenizer = getattr(transformers, kind)(vocab=vocabulary, merges=[], padding_side="right", model_max_length=16)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    tokenizer.save_pretrained(folder)
    np.testing.assert_allclose(our_features(folder)[1], transformers_features(folder)[1], atol=2e-5)
    capital, lower = cliplab.load(str(folder), device="cpu").embed_texts(["A photo", "a photo"])
    assert (capital @ lower > 0.9999) == (kind == "Siglip2Tokenizer")


def test_the_first_siglips_tokenizer_makes_texts_bare(bases: dict[str, Path], tmp_path: Path) -> None:
    """Its class needs sentencepiece; its tokenizer.json serves as well."""
    folder = changed(bases["siglip"], tmp_path, {})
    edit(folder / TOKENIZER, {"tokenizer_class": "SiglipTokenizer"})
    model = cliplab.load(str(folder), device="cpu")
    texts = [" A photo,\tof a  CAT!! ", "ca_t"]
    assert [model.tokenizer.clean(text) for text in texts] == ["a photo of a cat", "cat"]
    np.testing.assert_allclose(*model.embed_texts(["A photo, of a CAT!", "a photo of a cat"]), atol=1e-6)
    edit(folder / TOKENIZER, {"do_lower_case": False})
    assert cliplab.load(str(folder), device="cpu").tokenizer.clean("A Cat!") == "A Cat"


def test_clips_own_tokenizer_gets_texts_as_transformers_hands_them_over(tmp_path: Path) -> None:
    config = tiny_config("vit")
    write_clip_folder(tmp_path, config, built(config).state_dict())
    model = cliplab.load(str(tmp_path), device="cpu")
    assert isinstance(model.tokenizer, CLIPTokenizer)
    texts = ["A  Cat!", "AT&amp;T &lt;3", "naÃ¯ve", "x" * 400]
    theirs = AutoTokenizer.from_pretrained(tmp_path)(texts, truncation=True)["input_ids"]
    tokens = model.tokenizer(texts)
    assert [row[:n].tolist() for row, n in zip(tokens.ids, tokens.lengths, strict=True)] == theirs


# What versions 4 of the library wrote into every config, as in openai/clip-vit-base-patch32
LEGACY = {
    "_name_or_path": "", "add_cross_attention": False, "architectures": None, "bad_words_ids": None, "bos_token_id": 0,
    "chunk_size_feed_forward": 0, "cross_attention_hidden_size": None, "decoder_start_token_id": None,
    "diversity_penalty": 0.0,
    "do_sample": False, "dropout": 0.0, "early_stopping": False, "encoder_no_repeat_ngram_size": 0, "eos_token_id": 2,
    "finetuning_task": None, "forced_bos_token_id": None, "is_decoder": False, "length_penalty": 1.0, "max_length": 20,
    "min_length": 0, "no_repeat_ngram_size": 0, "num_beam_groups": 1, "num_beams": 1, "num_return_sequences": 1,
    "output_scores": False, "pad_token_id": 1, "prefix": None, "pruned_heads": {}, "remove_invalid_values": False,
    "repetition_penalty": 1.0, "sep_token_id": None, "task_specific_params": None, "temperature": 1.0,
    "tokenizer_class": None,
    "top_k": 50, "top_p": 1.0, "torchscript": False, "typical_p": 1.0, "use_bfloat16": False, "tie_word_embeddings": True,
    "transformers_version": "4.16.0.dev0",
}  # fmt: skip
OLD_PROCESSOR = {
    "crop_size": 32, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 32,
    "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip


@pytest.fixture
def legacy_folder(tmp_path: Path) -> Path:
    config = tiny_config("vit")
    write_clip_folder(tmp_path, config, built(config).state_dict())
    for part in ("text_config", "vision_config"):
        edit(tmp_path / CONFIG, {f"{part}.{key}": value for key, value in LEGACY.items()})
    edit(tmp_path / CONFIG, {"text_config_dict": None, "vision_config_dict": None, "torch_dtype": "float32"})
    (tmp_path / "processor_config.json").unlink()
    edit(tmp_path / PROCESSOR, OLD_PROCESSOR)
    return tmp_path


def test_a_folder_as_the_hub_has_had_them_for_years(legacy_folder: Path) -> None:
    for theirs, ours in zip(transformers_features(legacy_folder), our_features(legacy_folder), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_new_tokens_beside_the_old_end_of_text_would_be_pooled(legacy_folder: Path) -> None:
    """With eos_token_id 2 the library pools at the highest number, which an added token has."""
    tokenizer = AutoTokenizer.from_pretrained(legacy_folder)
    tokenizer.add_tokens(["<cat-toy>"])
    tokenizer.save_pretrained(legacy_folder)
    edit(legacy_folder / CONFIG, {"text_config.vocab_size": 49409})
    with pytest.raises(
        ValueError, match=r"config.json: text_config.eos_token_id is 2 and .* not be pooled at their end"
    ):
        cliplab.load(str(legacy_folder), device="cpu")


def test_a_dictionary_beside_the_text_config_wins(bases: dict[str, Path], tmp_path: Path) -> None:
    """As it does in the library: laion's early folders have both."""
    folder = changed(bases["clip"], tmp_path, {})
    stated = json.loads((folder / CONFIG).read_text())["text_config"]
    edit(folder / CONFIG, {"text_config_dict": {**stated, "hidden_act": "gelu"}})
    assert cliplab.load(str(folder), device="cpu").model.text_encoder.blocks[0].activation.__class__.__name__ == "GELU"
    np.testing.assert_allclose(our_features(folder)[1], transformers_features(folder)[1], atol=2e-5)
