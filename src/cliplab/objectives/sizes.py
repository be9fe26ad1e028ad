"""Sizes of a head where its config leaves them to the text tower."""

HEAD_WIDTH = 64  # as in CLIP and GPT


def head_number(width: int) -> int:
    """Heads of about 64 channels, as many as divide ``width``."""
    return next(heads for heads in range(max(1, width // HEAD_WIDTH), 0, -1) if width % heads == 0)
