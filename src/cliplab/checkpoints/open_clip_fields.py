"""Fields that the vision_cfg and the text_cfg of open_clip share."""

from cliplab.checkpoints.stated import Stated

EPS_OF_TORCH = 1e-5  # a LayerNorm's epsilon when norm_kwargs does not set one
NO_EFFECT = ("custom_text", "init_logit_scale", "nonscalar_logit_scale", "output_dict")  # of the model_cfg
TRAINING = ("patch_dropout", "timm_drop", "timm_drop_path", "timm_model_pretrained")
# open_clip reads these for its own ViT only, and ignores them with timm_model_name
TIMM_DECIDES = (
    "layers", "width", "head_width", "mlp_ratio", "patch_size", "ls_init_value", "attentional_pool", "attn_pooler_queries",
    "attn_pooler_heads", "no_ln_pre", "pos_embed_type", "final_ln_after_pool", "pool_type", "output_tokens", "act_kwargs",
    "norm_kwargs", "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn",
    "scale_fc", "timm_proj_bias",
)  # fmt: skip
CUSTOM = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")


def refuse_custom(part: Stated) -> None:
    """Refuse parts that neither of our towers has, unless they are switched off."""
    for key in (*CUSTOM, "output_tokens", "embed_cls", "attentional_pool"):
        part.only(key, (False,), "our towers have no such part")
    part.only("block_type", ("default",), "our towers have the plain block")
    part.only("ls_init_value", (), "our towers have no layer scale")


def activation_and_eps(part: Stated, quick_gelu: bool, norm_eps: float) -> tuple[str, float]:
    """Activation and epsilon of a tower, from ``act_kwargs`` and ``norm_kwargs``."""
    act, norm = part.part("act_kwargs"), part.part("norm_kwargs")
    approximate = act.choice("approximate", {"none": "gelu", "tanh": "gelu_tanh"}, "none", "GELUs")
    if quick_gelu and approximate != "gelu":
        raise act.refusal("approximate", "tanh", "QuickGELU has no such form; the model_cfg states quick_gelu")
    eps = norm.number("eps", norm_eps)
    act.finish()
    norm.finish()
    return ("quick_gelu" if quick_gelu else approximate), eps
