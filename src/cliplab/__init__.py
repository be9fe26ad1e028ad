"""cliplab: contrastive image-text pre-training, zero-shot evaluation and reports. Nothing heavy is imported here."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliplab.inference import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import ``cliplab.load`` on first use."""
    if name == "load":
        from cliplab.inference import load

        return load
    raise AttributeError(f"module 'cliplab' has no attribute {name!r}")
