"""The model card of exported weights: the model, how to load it, how it was trained, and its results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from cliplab.files import read_yaml
from cliplab.reporting.results import read_json, read_records

TEMPLATES = Path(__file__).parent / "templates"
LIBRARIES = {"huggingface": "transformers", "open_clip": "open_clip", "openai": "open_clip", "onnx": "onnx"}
USAGE = {
    "huggingface": "from transformers import CLIPModel, CLIPProcessor\n\n"
    'model = CLIPModel.from_pretrained("<this folder>")\n'
    'processor = CLIPProcessor.from_pretrained("<this folder>")',
    "open_clip": "import open_clip\n\n"
    'model, _, preprocess = open_clip.create_model_and_transforms("local-dir:<this folder>")',
    "openai": 'import open_clip\n\nmodel = open_clip.load_openai_model("<this folder>/model.pt", device="cpu")',
    "onnx": "import onnxruntime\n\n"
    'image = onnxruntime.InferenceSession("<this folder>/image_encoder.onnx")  # pixels: uint8 [batch, 3, {size}, {size}]\n'
    'text = onnxruntime.InferenceSession("<this folder>/text_encoder.onnx")  # input_ids, attention_mask: int64',
    "safetensors": 'import cliplab\n\nmodel = cliplab.load("<this folder>")',
}


def _results(run_dir: Path | None) -> list[dict[str, Any]]:
    """The figures of every evaluation of the run."""
    rows = []
    for record in read_records(run_dir) if run_dir else ():
        facts = {"dataset": record.dataset, "task": record.kind.task.removeprefix("zeroshot_")}
        known = [metric for metric in record.kind.figures if metric in record.metrics]
        rows += [{**facts, "metric": metric, "value": record.metrics[metric]} for metric in known]
    return rows


def _towers(model: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    image, text = model["image_encoder"], model["text_encoder"]
    keys = [k for k in dict.fromkeys([*image, *text]) if k not in ("_target_", "output_dim")]
    classes = ("class", image["_target_"].rpartition(".")[2], text["_target_"].rpartition(".")[2])
    shown = [(key.replace("_", " "), image.get(key, ""), text.get(key, "")) for key in keys]
    return [classes, *(row for row in shown if not any(isinstance(cell, dict) for cell in row))]


def _training(manifest: Mapping[str, Any]) -> list[tuple[str, Any]]:
    data = manifest.get("data", {})
    samples, versions = data.get("samples"), manifest.get("versions", {})
    rows = {
        "data": data.get("source"),
        "samples": f"{samples:,}" if samples else None,
        "optimizer steps": data.get("steps"),
        "seed": manifest.get("seed"),
        "finished": manifest.get("finished"),
        "command": f"`{manifest.get('command')}`",
        "commit": (manifest.get("git") or {}).get("commit"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return [(key, value) for key, value in rows.items() if value]


def model_card(
    *,
    name: str,
    form: str,
    model: Mapping[str, Any],
    preprocessing: str,
    mean: Any,
    std: Any,
    source: str,
    parameters: int,
    run_dir: Path | None,
) -> str:
    """The card as Markdown with the front matter of the hub. ``run_dir`` is the run that trained the weights, if known."""
    manifest = (read_json(run_dir / "manifest.json") if run_dir else None) or {}
    config = {}
    if run_dir:
        run_config = read_yaml(run_dir / "config.yaml")
        config = {
            key: run_config[key]
            for key in ("objective", "optimizer", "scheduler", "data", "trainer")
            if key in run_config
        }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("model_card.md.jinja").render(
        name=name,
        library=LIBRARIES.get(form, "cliplab"),
        origin=f"trained by the run `{run_dir.name}`" if run_dir else f"converted from `{Path(source).name}`",
        usage=USAGE[form].replace("{size}", str(model["image_encoder"].get("image_size", "size"))),
        model=model,
        towers=_towers(model),
        parameters=parameters,
        preprocessing=preprocessing,
        mean=[round(float(x), 6) for x in mean],
        std=[round(float(x), 6) for x in std],
        results=_results(run_dir),
        run=manifest,
        training=_training(manifest),
        credits=manifest.get("credits", []),
        config=yaml.safe_dump(config, sort_keys=False).strip(),
    )
