"""Compressed tars are unpacked into the cache folder, as far as they can be read."""

import bz2
import gzip
import io
import lzma
from pathlib import Path

import pyarrow
import pytest

from cliplab.data.tar import index as index_module
from cliplab.data.tar.index import index_tar

from .tars import PNG, pairs, read, write_tar


def compressed(data: bytes, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zst":
        with pyarrow.CompressedOutputStream(buffer, "zstd") as target:
            target.write(data)
            target.flush()
            return pyarrow.compress(data, "zstd", asbytes=True)
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](data)


@pytest.mark.parametrize("name", ["0.tar.gz", "0.tgz", "0.tar.bz2", "0.tar.xz", "0.tar.zst", "gzipped.tar"])
def test_compressed_tars(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path / "cache"))
    plain = write_tar(tmp_path / "plain", pairs(3)).read_bytes()
    kind = {"tgz": "gz", "tar": "gz"}.get(name.rsplit(".", 1)[-1], name.rsplit(".", 1)[-1])
    file = tmp_path / name
    file.write_bytes(compressed(plain, kind))
    assert list(read(file)) == ["000", "001", "002"]
    for kept in (tmp_path / "cache").rglob("*.tar"):
        kept.unlink()
    index_module._index.cache_clear()
    assert read(file)["001"] == (["number 1"], PNG), "unpacked again"


def test_a_compressed_tar_that_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path / "cache"))
    plain = write_tar(
        tmp_path / "plain", [(f"{k}.{s}", bytes(range(256)) * 40) for k in range(40) for s in ("jpg", "txt")]
    )
    file = tmp_path / "0.tar.gz"
    file.write_bytes(gzip.compress(plain.read_bytes(), 0)[:400_000])
    for _ in range(2):
        index_module._index.cache_clear()
        table, faults = index_tar(file)
        assert 10 < table.num_rows < 40
        assert faults[0][0] == "damaged_tar"
        assert "the compressed data are cut short or damaged" in faults[0][1]


def test_a_folder_that_cannot_hold_what_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "0.tgz").write_bytes(gzip.compress(write_tar(tmp_path / "plain", pairs(1)).read_bytes()))
    with pytest.raises(OSError, match=r"0.tgz is compressed and must be unpacked into .*CLIPLAB_CACHE=<folder>"):
        index_tar(tmp_path / "0.tgz")
