"""benchmark=train_step: one step of training, ours beside open_clip's and transformers' on the same batch and weights."""

from statistics import median

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.comparing import compare, facts_of, figures_of, said, table
from cliplab.benchmarks.contenders import Contender
from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.operations import image_operations, logit_operations, text_operations
from cliplab.benchmarks.setting import Setting
from cliplab.benchmarks.workload import Workload
from cliplab.data.fields import takes_fields
from cliplab.evaluation.clock import Phases

PARTS = ("load", "image tower", "text tower", "loss", "optimizer")


def step(contender: Contender, setting: Setting) -> None:
    """A step of training: load, forward, loss, backward, optimizer."""
    images, texts, there = contender.load()
    with setting.autocast():
        loss = contender.loss(contender.image(images), contender.text(texts), there)
    loss.backward()
    contender.optimizer.step()
    contender.optimizer.zero_grad(set_to_none=True)


def step_in_parts(contender: Contender, setting: Setting, phases: Phases) -> None:
    """The same step with its parts timed: each tower forward and backward, the loss with the gradient of the embeddings."""
    with phases("load"):
        images, texts, there = contender.load()
    with phases("image tower"), setting.autocast():
        image_embeds = contender.image(images)
    with phases("text tower"), setting.autocast():
        text_embeds = contender.text(texts)
    with phases("loss"), setting.autocast():
        leaves = [x.detach().requires_grad_() for x in (image_embeds, text_embeds)]
        contender.loss(leaves[0], leaves[1], there).backward()
    with phases("text tower"):
        text_embeds.backward(leaves[1].grad)
    with phases("image tower"):
        image_embeds.backward(leaves[0].grad)
    with phases("optimizer"):
        contender.optimizer.step()
        contender.optimizer.zero_grad(set_to_none=True)


def milliseconds_by_part(contender: Contender, setting: Setting, rounds: int) -> dict[str, float]:
    """The median of each part over ``rounds`` steps."""
    found = []
    for _ in range(rounds):
        phases = Phases(setting.device)
        step_in_parts(contender, setting, phases)
        found.append(phases.seconds())
    return {part: 1000 * median(seconds[part] for seconds in found) for part in PARTS}


def operations_of(contender: Contender, setting: Setting, batch: MadeBatch) -> int:
    """Those that our model needs for the batch: both towers and the logits, with their gradients."""
    total = image_operations(contender, setting) + text_operations(contender, setting, batch.tokens.lengths)
    return total + logit_operations(len(batch.images), contender.model.embed_dim)  # type: ignore[arg-type]


@takes_fields(Workload)
def measure(work: Workload) -> Measured:
    """Time steps of each contender in alternation, then their parts."""
    setting, batch, about = work.prepared()
    compared = compare(
        work.config,
        setting,
        batch,
        lambda contender: lambda: step(contender, setting),
        lambda contender: operations_of(contender, setting, batch),
        peers=work.peers,
        rounds=work.rounds,
        steps=work.steps,
    )
    tokens = int(batch.tokens.lengths.sum())
    timed, contenders = compared.timed, compared.contenders
    figures = figures_of(timed, {"images": work.batch_size, "tokens": tokens})
    parts = {name: milliseconds_by_part(c, setting, work.rounds) for name, c in contenders.items()}
    for part in PARTS:
        figures[f"{part}, ms"] = {name: parts[name][part] for name in parts}
    told = f"{about}, {setting}: {said(compared, work.batch_size, 'images')}"
    return Measured(table(figures, list(contenders)), told, facts_of(timed, setting) | {"parts_ms": parts})
