"""task=export: write a trained model in the format of another program, with a model card."""

from pathlib import Path

from cliplab.settings.build import build
from cliplab.settings.check_targets import check_package
from cliplab.settings.config import ConfigError, did_you_mean
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import model_source

FORMATS = ("huggingface", "open_clip", "openai", "onnx", "safetensors")
OTHER_NAMES = {
    "transformers": "huggingface",
    "hf": "huggingface",
    "openclip": "open_clip",
    "pt": "openai",
    "clip": "openai",
}


def check(job: Job) -> None:
    """Raises ConfigError without a format or a model, for a missing package, and for a folder that is not empty."""
    form = job.config["format"]
    if form not in FORMATS:
        hint = did_you_mean(OTHER_NAMES.get(str(form).lower(), str(form)), FORMATS) if form else ""
        raise ConfigError(f"format: task=export needs one of {', '.join(FORMATS)}, not {form!r}{hint}")
    if form == "onnx":
        for package in ("onnx", "onnxscript"):
            check_package("format", package, "onnx")
    out = out_folder(job)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out: {out} exists and is not an empty folder; name another")
    model_source(job.config)


def out_folder(job: Job) -> Path:
    """``out=``, or else a folder in the run folder that is named after the format."""
    return Path(job.config["out"] or job.run_dir / job.config["format"]).expanduser()


def run(job: Job) -> Outcome:
    """Write the model and its card. Returns their folder."""
    from cliplab.assembly.model import model_weights
    from cliplab.assembly.weights import load_weights
    from cliplab.checkpoints.write import write
    from cliplab.reporting.model_card import model_card
    from cliplab.runs.folder import model_name, run_of

    form, out = job.config["format"], out_folder(job)
    weights = model_weights(job)
    model = build(weights.model, "model")
    load_weights(model, weights)
    write(form, out, weights, model)
    transform = build(weights.sized_transform(model.image_size), "data.eval_transform")
    card = model_card(
        name=model_name(weights.source),
        form=form,
        model=weights.model,
        preprocessing=transform.fingerprint,
        mean=model.image_mean.flatten(),
        std=model.image_std.flatten(),
        source=weights.source,
        parameters=sum(p.numel() for p in model.parameters()),
        run_dir=run_of(weights.source),
    )
    (out / "README.md").write_text(card, encoding="utf8")
    return Outcome(out)
