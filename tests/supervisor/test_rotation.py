"""A file that is rotated: whole pieces or nothing, whatever the disk does."""

import os
from pathlib import Path

import pytest

from meshvisor.supervisor.rotation import RotatedFile


def test_a_piece_that_the_disk_took_half_of_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[str] = []
    restored: list[int] = []
    file = RotatedFile(tmp_path / "a", max_size=100, keep=1, lost=lost.append, restored=restored.append)
    file.append(b"one\n")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
        file.append(b"two\n")
        assert (tmp_path / "a").read_bytes() == b"one\n"
    file.append(b"three\n", 2)
    file.close()
    assert (tmp_path / "a").read_bytes() == b"one\nthree\n"
    assert (lost, restored) == (["No space left on device"], [1])


def test_a_piece_larger_than_a_whole_file_has_one_for_itself(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "a", max_size=10, keep=2, lost=pytest.fail, restored=print)
    for piece in (b"1\n", b"2" * 20 + b"\n", b"3\n"):
        file.append(piece)
    file.close()
    found = [(tmp_path / name).read_bytes()[:1] for name in ("a", "a.1", "a.2")]
    assert found == [b"3", b"2", b"1"]


def test_a_link_that_somebody_has_put_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"as it was\n")
    (tmp_path / "a").symlink_to("precious")
    lost: list[str] = []
    restored: list[int] = []
    file = RotatedFile(tmp_path / "a", max_size=100, keep=1, lost=lost.append, restored=restored.append)
    file.append(b"one\n")
    assert (tmp_path / "precious").read_bytes() == b"as it was\n"
    assert lost == ["Too many levels of symbolic links"]
    (tmp_path / "a").unlink()
    file.append(b"two\n")
    file.close()
    assert ((tmp_path / "a").read_bytes(), restored) == (b"two\n", [1])
