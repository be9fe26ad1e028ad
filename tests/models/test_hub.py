"""A hub that does not answer is asked once, and told with the keys that help; what was fetched before is read."""

import socket
import threading
import time
from collections.abc import Iterator

import huggingface_hub
import pytest
from huggingface_hub import constants
from transformers import AutoConfig

from cliplab.data.tokenizers import HFTokenizer
from cliplab.models import hub
from cliplab.models.hf_sources import UnreachableWeights, read_architecture


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_answers", {})
    monkeypatch.setattr(hub, "PATIENCE", 0.3)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """It takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(20)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.usefixtures("online")
def test_a_closed_or_silent_hub_is_told_once(monkeypatch: pytest.MonkeyPatch, silent_server: str) -> None:
    for endpoint, reason in (
        ("http://127.0.0.1:9", "cannot be reached"),
        (silent_server, "reached|does not answer within"),
    ):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        start = time.monotonic()
        with pytest.raises(UnreachableWeights, match=f"^model.text_encoder.source: owner/name .*{endpoint} .*{reason}"):
            read_architecture("owner/name", "model.text_encoder")
        both = r"^tokenizer.source: owner/name .* model.text_encoder.source=<folder>, which tokenizer.source follows"
        with pytest.raises(UnreachableWeights, match=both):
            HFTokenizer(source="owner/name", context_length=9)
        assert time.monotonic() - start < 3
        assert not huggingface_hub.is_offline_mode()


@pytest.mark.usefixtures("online")
def test_an_answer_of_any_kind_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(hub, "PATIENCE", 5.0)

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        assert hub.hub_silence() is None
        assert hub.hub_silence() is None  # the server answers once: the second time nobody asks


@pytest.mark.usefixtures("online")
def test_offline_is_what_the_libraries_look_at() -> None:
    """The switch is the library's own constant; this fails when it looks elsewhere."""
    with hub.offline():
        assert huggingface_hub.is_offline_mode()
        with pytest.raises(OSError, match=r"offline|cached"):
            AutoConfig.from_pretrained("owner/name")
    assert not huggingface_hub.is_offline_mode()


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("owner/name", True),
        ("bert-base", True),
        ("/tmp", False),
        ("./x/y", False),
        ("a/b/c", False),
        ("package:m/f", False),
    ],
)
def test_what_is_a_name_on_the_hub(source: str, named: bool) -> None:
    assert hub.on_hub(source) == named
