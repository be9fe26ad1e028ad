"""torch.compile of both towers."""

from cliplab.models.clip import CLIP


def compile_towers(model: CLIP) -> None:
    """Let each tower be one graph, compiled once for training whatever the lengths of the texts. It needs no value of the
    device when a batch brings ``Tokens.places``. Without gradients our text tower is not compiled: there texts share their
    beginnings, which follow the data. ``forward_states``, which decoders read, is not compiled either."""
    model.image_encoder.compile()
    model.text_encoder.compile(dynamic=True)
