"""A step of training on tensors without values: the model, objective, optimizer and strategy of a config."""

import copy
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._pytree import tree_map_only

from cliplab.assembly.training_parts import assembled
from cliplab.benchmarks.batch import made_tokens, typical_lengths
from cliplab.data.loader import Batch
from cliplab.models.checkpointing import checkpoint_towers
from cliplab.models.chunks import encode_in_chunks, split_tokens
from cliplab.models.kernels import traced_as_gpu
from cliplab.models.tokens import Tokens
from cliplab.objectives.objective import Objective
from cliplab.planning.tracer import ACTIVATIONS, BATCH, GRADIENTS, LOSS, OPTIMIZER, WEIGHTS, Pace, Tracer
from cliplab.settings.build import build
from cliplab.settings.check_trainer import every_nth
from cliplab.training.module import TrainingModule
from cliplab.training.sharding import ShardedTrainingModule

VOCABULARY, CONTEXT = 1000, 77  # tokens have no values here; the context of towers that do not tell theirs
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
WHOLE = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "32-true": torch.float32}


class Workload(NamedTuple):
    """``ranks`` share the batch; captions are made (``benchmarks.batch``). Operations are those of a GPU where ``packed`` is
    not None: whether it has attention over packed texts."""

    config: dict[str, Any]
    objective: Objective
    ranks: int
    mean_tokens: float
    spread: float
    packed: bool | None
    pace: Pace


class Made(NamedTuple):
    """A batch on the CPU with values: black pictures, and texts of natural lengths; ``texts`` are its texts in chunks, where
    it is encoded in chunks. ``text_length`` is the length of text that a token attends to in the mean."""

    batch: Batch
    texts: list[Tokens]
    text_length: float


class Traced(NamedTuple):
    """The bytes of each part at the peak of each phase of a step, what the step does, and the bytes of all gradients."""

    peaks: Mapping[str, Mapping[str, float]]
    work: Mapping[str, float]
    gradients: int
    parameters: int


def trace(work: Workload, local_batch: int) -> Traced:
    """A step of one of the ranks with ``local_batch`` pairs of its own."""
    kernels = nullcontext() if work.packed is None else traced_as_gpu(packed=work.packed)
    with kernels, _ranks(work) as mesh:
        made = _made(work, local_batch)
        tracer = Tracer(work.pace, made.text_length, work.ranks)
        with FakeTensorMode(allow_non_fake_inputs=True), tracer, tracer.following_sizes():
            return _traced(work, mesh, made, tracer)


def _traced(work: Workload, mesh: DeviceMesh | None, made: Made, tracer: Tracer) -> Traced:
    module = _module(work) if mesh is None else _sharded(work, mesh)
    optimizer = module.configure_optimizers()["optimizer"]
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    gc.collect()
    tracer.count_to(WEIGHTS, [*module.parameters(), *module.buffers()])
    for parameter in trained:
        parameter.register_post_accumulate_grad_hook(lambda p: tracer.count_to(GRADIENTS, p.grad))
    tracer.begin("first step", OPTIMIZER)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    gradients = sum(p.grad.numel() * p.grad.element_size() for p in trained)  # type: ignore[union-attr]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    gc.collect()
    tracer.reset()
    _step(work, module, optimizer, made, tracer)
    peaks = {phase: dict(parts) for phase, parts in tracer.peaks.items()}
    return Traced(peaks, dict(tracer.work), gradients, sum(p.numel() for p in module.model.parameters()))


def _step(work: Workload, module: TrainingModule, optimizer: Any, made: Made, tracer: Tracer) -> None:
    """As Lightning's automatic optimization makes it."""
    tracer.begin("batch", BATCH)
    batch, texts = tree_map_only(Tensor, torch.clone, (made.batch, made.texts))
    tracer.begin("forward", ACTIVATIONS)
    kind = AUTOCAST.get(_precision(work))
    with torch.autocast("cpu", kind or torch.bfloat16, enabled=kind is not None):
        reads = module.objective.reads
        if texts:
            encoded = encode_in_chunks(module.model, batch.images, texts, reads)
        else:
            encoded = module.model(batch.images, batch.tokens, reads)
        tracer.begin("loss", LOSS)
        loss = module.objective(encoded, batch).loss

    def reached(gradient: Tensor) -> None:
        """The gradient of the loss is done once it comes to the first of the embeddings."""
        if tracer.phase == "loss":
            tracer.begin("backward", ACTIVATIONS)

    for embeds in (encoded.image_embeds, encoded.text_embeds):
        if embeds is not None and embeds.requires_grad:
            embeds.register_hook(reached)
    del encoded
    loss.backward()
    module.on_after_backward()
    del loss
    tracer.begin("optimizer", OPTIMIZER)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _precision(work: Workload) -> str:
    return str(work.config["trainer"]["precision"])


def _sharded(work: Workload, mesh: DeviceMesh) -> TrainingModule:
    """Sharded where no tensor is, which is quick for any number of ranks."""
    with unset_fake_temporarily(), torch.device("meta"):
        module = _module(work)
        assert isinstance(module, ShardedTrainingModule)
        module.shard(mesh)
    module.to_empty(device="cpu")
    module.lock(module.locking.locks)
    return module


def _module(work: Workload) -> TrainingModule:
    kind = WHOLE.get(_precision(work), torch.float32)
    with _default_type(kind):
        model = build(work.config["model"], "model")
    for name in ("logit_scale", "logit_bias"):  # these are always trained in float32
        if (scalar := getattr(model, name)) is not None:
            setattr(model, name, nn.Parameter(scalar.detach().float()))
    checkpoint_towers(model, every_nth(work.config["trainer"].get("activation_checkpointing")))
    parts: dict[str, Any] = {"objective": copy.deepcopy(work.objective), "schedule": _constant, "total_steps": 1}
    with _default_type(kind):
        module = assembled(work.config, model=model, **parts)
    for part in module.modules() if kind != torch.float32 else ():
        part._buffers.update(
            {n: b.to(kind) for n, b in part._buffers.items() if b is not None and b.is_floating_point()}
        )
    module.train()
    return module


@contextmanager
def _default_type(kind: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _constant(step: int, total_steps: int) -> float:
    return 1.0


def _made(work: Workload, size: int) -> Made:
    side = work.config["model"]["image_encoder"]["image_size"]
    longest = work.config["model"]["text_encoder"].get("context_length") or CONTEXT
    generator = torch.Generator().manual_seed(work.config["seed"])
    lengths = typical_lengths(size, work.mean_tokens, work.spread, longest)
    tokens = made_tokens(lengths, VOCABULARY, generator).with_places()
    images = torch.zeros(1, 3, side, side, dtype=torch.uint8).expand(size, -1, -1, -1)
    index = torch.arange(size)
    batch = Batch(images, tokens, index, index, index, [], 0, [], captions=[""] * size)
    chunks = work.config["trainer"].get("contrastive_accumulation", 1)
    texts = split_tokens(tokens, chunks) if chunks > 1 else []
    return Made(batch, texts, float(lengths.double().square().sum() / lengths.sum()))


@contextmanager
def _ranks(work: Workload) -> Iterator[DeviceMesh | None]:
    """Within a group of ranks of which only this one is there: torch's fake one, which exchanges nothing. The mesh of
    those that share sharded towers."""
    sharded = work.config["trainer"]["strategy"] == "fsdp"
    if work.ranks == 1 and not sharded:
        yield None
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=work.ranks)
    try:
        yield init_device_mesh("cpu", (work.ranks,)) if sharded else None
    finally:
        dist.destroy_process_group()
