"""cliplab: contrastive image-text pre-training, zero-shot evaluation and reports. Nothing heavy is imported here."""

__version__ = "0.1.0"
