"""task=export: a trained model in another program's format, with a model card."""

from pathlib import Path

from cliplab.assembly.model import model_weights
from cliplab.assembly.weights import load_weights
from cliplab.checkpoints.write import FORMATS, write
from cliplab.reporting.model_card import model_card
from cliplab.runs.folder import model_name, run_of
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError, did_you_mean
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import KEYS, model_source


def run(job: Job) -> Outcome:
    """Write ``out=`` (the run folder's ``<format>/`` when it is not given). Returns its path."""
    config = job.config
    if any(config[key] for key in KEYS):
        model_source(config)  # a place that is not there is told before its format
    form = config["format"]
    if form not in FORMATS:
        hint = did_you_mean(str(form), FORMATS) if form else ""
        raise ConfigError(f"format: task=export needs one of {', '.join(FORMATS)}, not {form!r}{hint}")
    out = Path(config["out"] or job.run_dir / form).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out: {out} exists and is no empty folder; name another")
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
