"""task=export: a trained model in another program's format, with a model card."""

from pathlib import Path

from cliplab.checkpoints.write import FORMATS, write
from cliplab.reporting.model_card import model_card
from cliplab.settings.config import ConfigError, build, did_you_mean
from cliplab.settings.job import Job
from cliplab.settings.loading import model_key, model_name, named_weights, run_folder
from cliplab.settings.pretrained import load_weights


def run(job: Job) -> None:
    """Write ``out=`` (the run folder's ``<format>/`` when it is not given) and print its path."""
    config, cfg, overrides = job.config, job.composed, job.typed
    if any(config[key] for key in ("ckpt", "run", "pretrained")):
        model_key(config)  # a place that is not there is told before its format
    form = config["format"]
    if form not in FORMATS:
        hint = did_you_mean(str(form), FORMATS) if form else ""
        raise ConfigError(f"format: task=export needs one of {', '.join(FORMATS)}, not {form!r}{hint}")
    out = Path(config["out"] or Path(config["paths"]["run"]) / form).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out: {out} exists and is no empty folder; name another")
    weights = named_weights(config, cfg, overrides)
    model = build(weights.model, "model")
    load_weights(model, weights)
    write(form, out, weights, model)
    transform = build({"_target_": weights.transform, "image_size": model.image_size}, "data.eval_transform")
    card = model_card(
        name=model_name(weights.source),
        form=form,
        model=weights.model,
        preprocessing=transform.fingerprint,
        mean=model.image_mean.flatten(),
        std=model.image_std.flatten(),
        source=weights.source,
        parameters=sum(p.numel() for p in model.parameters()),
        run_dir=run_folder(weights.source),
    )
    (out / "README.md").write_text(card, encoding="utf8")
    print(out)
