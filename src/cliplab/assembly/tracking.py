"""Loggers of a run, from their configs to their end."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from torch.utils.flop_counter import FlopCounterMode

from cliplab.assembly.training_checks import is_first_rank
from cliplab.models.clip import CLIP
from cliplab.models.tokens import Tokens
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError, value_at
from cliplab.training.trackers import trackers_of


@contextmanager
def tracked(config: Mapping[str, Any], model: CLIP) -> Iterator[list[Logger]]:
    """The loggers of the config, on the first rank. Trackers are told config and model before, and how the run ended after.
    Raises ConfigError, in one line, when one of them cannot be used."""
    nodes = config["logger"].items() if is_first_rank() else ()
    loggers: list[Logger] = [build(node, f"logger.{key}") for key, node in nodes if node]
    trackers = trackers_of(loggers)
    facts = model_facts(config, model) if trackers else {}
    begun, status = [], "failed"
    try:
        for tracker in trackers:
            begun.append(tracker)
            try:
                tracker.begin(config, facts)
            except (ValueError, OSError) as error:
                begun.pop()
                raise ConfigError(str(error)) from error
        yield loggers
        status = "finished"
    except (KeyboardInterrupt, SystemExit):
        status = "stopped"
        raise
    finally:
        for tracker in begun:
            with suppress(Exception):  # what ended the run is told, not what its tracker makes of it
                tracker.end(status)


def model_facts(config: Mapping[str, Any], model: CLIP) -> dict[str, Any]:
    """Parameters, and floating-point operations of one image and of one caption of full length, forwards. Operations that
    cannot be counted are left out."""
    parameters = list(model.parameters())
    facts = {
        "model/parameters": sum(p.numel() for p in parameters),
        "model/trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
    }
    with suppress(Exception):
        facts["model/flops_image"] = _image_operations(config)
    with suppress(Exception):
        facts["model/flops_text"] = _text_operations(config, model)
    return facts


@torch.no_grad()
def _image_operations(config: Mapping[str, Any]) -> int:
    """Counted without computing anything."""
    with torch.device("meta"):
        tower = build(config["model"], "model").image_encoder.eval()
        images = torch.zeros(1, 3, tower.image_size, tower.image_size)
    with FlopCounterMode(display=False) as counter:
        tower(images)
    return int(counter.get_total_flops())


@torch.no_grad()
def _text_operations(config: Mapping[str, Any], model: CLIP) -> int:
    """Counted on the tower itself, which packs its tokens by their lengths."""
    length = int(value_at(config, "tokenizer.context_length"))
    device = next(model.text_encoder.parameters()).device
    tokens = Tokens(torch.ones(1, length, dtype=torch.int64, device=device), torch.tensor([length], device=device))
    training = model.text_encoder.training
    model.text_encoder.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            model.text_encoder(tokens)
    finally:
        model.text_encoder.train(training)
    return int(counter.get_total_flops())
