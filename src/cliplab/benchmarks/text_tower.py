"""benchmark=text_tower: the text tower forward and backward, ours beside open_clip's and transformers'."""

from cliplab.benchmarks.measured import Measured
from cliplab.benchmarks.operations import text_operations
from cliplab.benchmarks.towers import measure_tower
from cliplab.benchmarks.workload import Workload
from cliplab.data.fields import takes_fields


@takes_fields(Workload)
def measure(work: Workload) -> Measured:
    """Tokens are real ones, without padding, for all contenders."""
    setting, batch, about = work.prepared()
    return measure_tower(
        work.config,
        setting,
        batch,
        of=lambda contender: (contender.text, contender.load().texts),
        operations_of=lambda contender: text_operations(contender, setting, batch.tokens.lengths),
        counts={"tokens": int(batch.tokens.lengths.sum()), "texts": work.batch_size},
        peers=work.peers,
        rounds=work.rounds,
        steps=work.steps,
        about=f"text tower, {about}",
    )
