"""The CLIPModel folder of transformers: its names and config, read and written without building the model twice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPProcessor, SiglipConfig

from cliplab.checkpoints.io import read_folder_state, write_safetensors
from cliplab.checkpoints.preprocessing import read_processor
from cliplab.checkpoints.stated import Stated, read_json
from cliplab.checkpoints.stating import processor_fields
from cliplab.checkpoints.tokenizer_files import clip_folder_tokenizer
from cliplab.checkpoints.weights import (
    RESNET,
    TEXT,
    VIT,
    Weights,
    check_sizes,
    clip_config,
    mlp_ratio,
    renamed,
    statistics,
)
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.models.encoders import CLIP_MEAN, CLIP_STD
from cliplab.models.hf_sources import quiet
from cliplab.text import one_line

BLOCK = {
    "ln_1": "layer_norm1",
    "attention.out": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
}
# The library's names of activations -> ours; the tanh forms differ in rounding only
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
}
WRITTEN = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}
CONFIGS: dict[str, Any] = {"clip": CLIPConfig, "siglip": SiglipConfig}
# Fields of config.json that change no embedding. They concern the library, training, or generating text; versions before 5
# wrote the latter into every config. Nothing that a tower reads is among them.
NO_EFFECT = (
    "_name_or_path", "_commit_hash", "_attn_implementation_autoset", "attn_implementation", "architectures", "model_type",
    "transformers_version", "dtype", "torch_dtype", "use_bfloat16", "torchscript", "tf_legacy_loss", "return_dict",
    "output_attentions", "output_hidden_states", "output_scores", "use_cache", "chunk_size_feed_forward", "problem_type",
    "id2label", "label2id", "num_labels", "finetuning_task", "task_specific_params", "is_encoder_decoder", "is_decoder",
    "add_cross_attention", "cross_attention_hidden_size", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class",
    "prefix", "sep_token_id", "decoder_start_token_id", "gradient_checkpointing",
    "attention_dropout", "dropout", "hidden_dropout_prob", "drop_path_rate", "initializer_range", "initializer_factor",
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty",
    "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "return_dict_in_generate",
    "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens", "text_config_dict", "vision_config_dict",
    "logit_scale_init_value",
)  # fmt: skip


def _tower_names(our_tower: str, their_tower: str, layers: int) -> dict[str, str]:
    """Our name -> theirs, with q, k and v as separate entries. See ``split_qkv``."""
    names: dict[str, str] = {}
    for kind in ("weight", "bias"):
        for i in range(layers):
            block, layer = f"{our_tower}.blocks.{i}", f"{their_tower}.encoder.layers.{i}"
            names |= {f"{block}.{ours}.{kind}": f"{layer}.{theirs}.{kind}" for ours, theirs in BLOCK.items()}
            names |= {f"{block}.attention.{c}.{kind}": f"{layer}.self_attn.{c}_proj.{kind}" for c in "qkv"}
    return names


def state_names(model: Mapping[str, Any]) -> dict[str, str]:
    """Our name -> transformers', with the fused projection split into q, k and v."""
    image, text = model["image_encoder"], model["text_encoder"]
    names = {
        "logit_scale": "logit_scale",
        "image_encoder.projection": "visual_projection.weight",
        "text_encoder.projection": "text_projection.weight",
        "image_encoder.class_embedding": "vision_model.embeddings.class_embedding",
        "image_encoder.patch_embedding.weight": "vision_model.embeddings.patch_embedding.weight",
        "image_encoder.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "text_encoder.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "text_encoder.positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    for kind in ("weight", "bias"):
        names[f"image_encoder.ln_pre.{kind}"] = f"vision_model.pre_layrnorm.{kind}"  # the library's spelling
        names[f"image_encoder.ln_post.{kind}"] = f"vision_model.post_layernorm.{kind}"
        names[f"text_encoder.ln_final.{kind}"] = f"text_model.final_layer_norm.{kind}"
    names |= _tower_names("image_encoder", "vision_model", image["layers"])
    return names | _tower_names("text_encoder", "text_model", text["layers"])


def split_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split ``….attention.qkv.weight`` into ``….attention.q.weight``, ``k`` and ``v``."""
    parts: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".attention.qkv." in key:
            for letter, rows in zip("qkv", value.chunk(3), strict=True):
                parts[key.replace(".qkv.", f".{letter}.")] = rows
        else:
            parts[key] = value
    return parts


def join_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``split_qkv``."""
    import torch

    fused: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".attention.q." in key:
            rows = [state[key.replace(".q.", f".{letter}.")] for letter in "qkv"]
            fused[key.replace(".q.", ".qkv.")] = torch.cat(rows)
        elif ".attention.k." not in key and ".attention.v." not in key:
            fused[key] = value
    return fused


def to_transformers(model: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under the names of ``CLIPModel``."""
    parts = split_qkv(state)
    theirs = {their_name: parts[our_name] for our_name, their_name in state_names(model).items()}
    for key in ("visual_projection.weight", "text_projection.weight"):
        theirs[key] = theirs[key].mT
    kernel, p = "vision_model.embeddings.patch_embedding.weight", model["image_encoder"]["patch_size"]
    theirs[kernel] = theirs[kernel].unflatten(1, (3, p, p))
    return theirs


def from_transformers(model: Mapping[str, Any], theirs: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """A state dict of ``CLIPModel`` under our names. Raises ValueError listing missing and extra keys."""
    known = {key: value for key, value in theirs.items() if not key.endswith("position_ids")}
    ours = join_qkv(renamed(state_names(model), known, source, lambda key: False))
    for tower in ("image_encoder", "text_encoder"):
        ours[f"{tower}.projection"] = ours[f"{tower}.projection"].mT.contiguous()
    ours["image_encoder.patch_embedding.weight"] = ours["image_encoder.patch_embedding.weight"].flatten(1)
    return ours | {"logit_scale": ours["logit_scale"].reshape(())} | statistics(model)


def library_config(family: str, file: Path) -> tuple[Stated, Stated, Stated]:
    """The top level, ``vision_config`` and ``text_config`` of a config.json, with the library's defaults filled in.

    Raises ValueError naming the file when the library refuses it.
    """
    values = read_json(file)
    try:
        with quiet():
            config = CONFIGS[family].from_dict(values)
    except Exception as error:  # its validators raise errors of several kinds
        raise ValueError(f"{file}: {one_line(error)}") from error
    top = Stated(config.to_dict(), file)
    parts = top.part("vision_config"), top.part("text_config")
    for part in (top, *parts):
        part.only("pruned_heads", ({},), "pruned heads cannot be followed")
        part.pass_over(NO_EFFECT)
    return top, *parts


def tower_sizes(part: Stated, activations: Mapping[Any, str], owner: str, norm_eps: float) -> dict[str, Any]:
    """The fields that all towers of CLIP and SigLIP share. ``norm_eps`` is the default of our towers."""
    width, inner = part.size("hidden_size"), part.size("intermediate_size")
    eps = part.number("layer_norm_eps", norm_eps)
    return {
        "width": width,
        "layers": part.size("num_hidden_layers"),
        "heads": part.size("num_attention_heads"),
        "mlp_ratio": mlp_ratio(inner, width),
        "activation": part.choice("hidden_act", activations, None, owner),
        **({} if eps == norm_eps else {"norm_eps": eps}),
    }


def model_config(file: Path) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """The towers' configs of a CLIPModel's config.json, and the id at which texts are pooled.

    Raises ValueError naming file and field.
    """
    top, vision, text = library_config("clip", file)
    dim = top.size("projection_dim")
    image = {"_target_": VIT, "image_size": vision.side("image_size"), "patch_size": vision.side("patch_size")}
    image |= {"output_dim": dim, **tower_sizes(vision, ACTIVATIONS, "CLIP's towers", 1e-5), "patch_dropout": 0.0}
    vision.only("num_channels", (3,), "towers take three channels")
    language = {"_target_": TEXT, "vocab_size": text.size("vocab_size")}
    language |= {"context_length": text.size("max_position_embeddings")}
    language |= tower_sizes(text, ACTIVATIONS, "CLIP's towers", 1e-5) | {"output_dim": dim}
    end = text.take("eos_token_id", 49_407)
    for part in (top, vision, text):
        part.pass_over(("projection_dim", "bos_token_id", "pad_token_id", "eos_token_id"))
        part.finish()
    return image, language, end


def read_clip_folder(folder: Path) -> Weights:
    """Read a folder that ``CLIPModel.save_pretrained`` wrote. Raises ValueError naming file and field for a setting that our
    towers lack."""
    source, file = str(folder), folder / "config.json"
    image, language, end = model_config(file)
    pictures = read_processor(folder, "CLIPImageProcessor", image["image_size"])
    model = clip_config(
        image_encoder=image,
        text_encoder=language,
        embed_dim=image["output_dim"],
        mean=pictures.mean,
        std=pictures.std,
    )
    check_sizes(model, str(file))
    tokenizer = clip_folder_tokenizer(folder, language["vocab_size"], language["context_length"], end)
    state = from_transformers(model, read_folder_state(folder, "model"), source)
    return Weights(model, tokenizer, state, source, transform=pictures.transform)


def _check_writable(model: Mapping[str, Any]) -> None:
    """Raises ValueError naming what CLIPModel cannot hold, and the format that can."""
    image, text = model["image_encoder"], model["text_encoder"]
    if image["_target_"] != VIT or text["_target_"] != TEXT:
        names = [t["_target_"].rpartition(".")[2] for t in (image, text)]
        other_format = "open_clip" if image["_target_"] == RESNET and text["_target_"] == TEXT else "safetensors"
        raise ValueError(
            f"format=huggingface is CLIPModel, a ViT and a causal text tower, not {' and '.join(names)}; "
            f"use format={other_format}"
        )
    if model.get("init_logit_bias") is not None:
        raise ValueError("format=huggingface: this model has a logit bias and CLIPModel has none; use format=open_clip")


def _sizes(tower: Mapping[str, Any], activation: str) -> dict[str, Any]:
    return {
        "hidden_size": tower["width"],
        "intermediate_size": int(tower["width"] * tower.get("mlp_ratio", 4.0)),
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": tower["heads"],
        "hidden_act": WRITTEN[activation],
        "layer_norm_eps": tower.get("norm_eps", 1e-5),
    }


def _library_config(model: Mapping[str, Any]) -> CLIPConfig:
    image, text = model["image_encoder"], model["text_encoder"]
    ends = {"bos_token_id": CLIPTokenizer.start_token, "eos_token_id": CLIPTokenizer.end_token}
    return CLIPConfig(
        vision_config={**_sizes(image, image["activation"]), "image_size": image["image_size"]}
        | {"patch_size": image["patch_size"], "projection_dim": model["embed_dim"]},
        text_config={**_sizes(text, text["activation"]), "vocab_size": text["vocab_size"], **ends}
        | {"max_position_embeddings": text["context_length"], "projection_dim": model["embed_dim"]}
        | {"pad_token_id": CLIPTokenizer.end_token},
        projection_dim=model["embed_dim"],
        architectures=["CLIPModel"],
        dtype="float32",
    )


def library_model(model: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """The library's own ``CLIPModel`` with these weights. Raises ValueError naming what it cannot hold."""
    from transformers import CLIPModel

    _check_writable(model)
    twin = CLIPModel(_library_config(model))
    twin.load_state_dict(to_transformers(model, state))
    return twin


def write_tokenizer(folder: Path, context_length: int) -> None:
    """Write CLIP's tokenizer as transformers and the tokenizers library read it."""
    CLIPTokenizer(context_length).library_tokenizer().save_pretrained(folder)


def write_clip_folder(
    folder: Path,
    model: Mapping[str, Any],
    state: Mapping[str, Tensor],
    transform: Mapping[str, Any] | None = None,
) -> None:
    """Write weights, config, image processor and tokenizer, for ``CLIPModel`` and ``CLIPProcessor.from_pretrained``.

    ``transform`` prepares pictures; None is the paper's. Raises ValueError naming what CLIPModel cannot hold.
    """
    _check_writable(model)
    config = _library_config(model)
    processor = CLIPImageProcessor(
        **processor_fields(transform, model["image_encoder"]["image_size"]),
        image_mean=list(model.get("image_mean", CLIP_MEAN)),
        image_std=list(model.get("image_std", CLIP_STD)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tokenizer = CLIPTokenizer(model["text_encoder"]["context_length"]).library_tokenizer()
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    write_safetensors(folder / "model.safetensors", to_transformers(model, state), {"format": "pt"})
