"""Checks once whether the Hugging Face hub or another address answers, to avoid long retries."""

import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.utils import get_session

PATIENCE = 5.0  # seconds for an answer of any kind
REMEMBERED = 120.0  # seconds for which an answer counts
_answers: dict[str, tuple[float, str | None]] = {}


def hub_silence() -> str | None:
    """Why the hub cannot be reached, in a few words; None when it answers. Takes ``PATIENCE`` at most."""
    if huggingface_hub.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    return silence_of(constants.ENDPOINT)


def silence_of(address: str) -> str | None:
    """Why an address cannot be reached, in a few words; None when it answers. Takes ``PATIENCE`` at most."""
    asked, answer = _answers.get(address, (-REMEMBERED, None))
    if time.monotonic() - asked > REMEMBERED:
        answer = _ask(address)
        _answers[address] = time.monotonic(), answer
    return answer


def _ask(address: str) -> str | None:
    heard: list[str | None] = []

    def ask() -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request
        try:
            get_session().head(address, timeout=PATIENCE, follow_redirects=False)
            heard.append(None)
        except Exception as error:  # depends on the HTTP client
            heard.append(f"{address} cannot be reached: {str(error) or type(error).__name__}")

    thread = threading.Thread(target=ask, daemon=True)  # the lookup of a name has no timeout
    thread.start()
    thread.join(PATIENCE)
    return heard[0] if heard else f"{address} does not answer within {PATIENCE:.0f} seconds"


@contextmanager
def patience_with_sockets() -> Iterator[None]:
    """Within it every new connection of this process that sets no limit itself gives up after ``PATIENCE`` seconds without
    a byte. It is for clients without a timeout setting."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def on_hub(source: str) -> bool:
    """Whether a source is a name on the hub, ``owner/name``, and no folder here."""
    named = re.fullmatch(r"(hf[-_]hub:)?[\w-][\w.-]*(/[\w.-]+)?", source)
    return bool(named) and not Path(source).expanduser().exists()


@contextmanager
def offline() -> Iterator[None]:
    """Libraries read only what was fetched before. ``HF_HUB_OFFLINE`` is read by them at each request."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def hub_or_cache(source: str) -> Iterator[None]:
    """Read ``source`` within it: a name on the hub comes from the cache when the hub does not answer."""
    if not on_hub(source) or hub_silence() is None:
        yield
        return
    with offline():
        yield
