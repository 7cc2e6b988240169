"""What is known of a mesh from outside is read as it was written."""

import os
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.outside import proc
from tests.outside.mesh import OutsideMesh, Report, Stuck, hit, write_file

NAME = f"unheardof-{os.getpid()}"
SECTIONS = {"workers.a": {"class": "probe:Probe", "replicas": 2, "backoff": {"max": "1s"}, "settings": {"slow": 0.5}}}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[OutsideMesh]:
    with OutsideMesh(tmp_path, NAME, SECTIONS) as mesh:
        yield mesh


def tell(mesh: OutsideMesh, *lines: str) -> None:
    (mesh.folder / "reports").write_text("".join(f"{line}\n" for line in lines))
    mesh.pump(0)


def test_sections_are_written_as_toml(tmp_path: Path) -> None:
    write_file(tmp_path / "mesh.toml", {"mesh": {"name": 'a"b'}, **SECTIONS})
    written = tomllib.loads((tmp_path / "mesh.toml").read_text())
    assert written == {"mesh": {"name": 'a"b'}, "workers": {"a": SECTIONS["workers.a"]}}


def test_what_the_file_must_have_is_put_in(mesh: OutsideMesh) -> None:
    written = tomllib.loads(mesh.file.read_text())
    assert written["mesh"] == {"name": NAME}
    assert written["workers"]["a"]["settings"]["slow"] == 0.5
    assert written["workers"]["a"]["settings"]["reports"] == str(mesh.folder / "reports")


def test_a_mesh_is_formed_when_both_ends_of_all_links_are_up(mesh: OutsideMesh) -> None:
    tell(mesh, "start a-0 1 - 0 10 100", "start a-1 2 - 0 11 101", "up a-0 1 a-1 2 30 100", "up a-1 1 a-0 1 25 99")
    assert mesh.meshed(None, 2) is None
    tell(mesh, "up a-1 2 a-0 1 20 101")
    assert (mesh.meshed(None, 2), mesh.meshed("a-1", 2), mesh.meshed(None, 3)) == (30, 30, None)


def test_a_new_life_has_its_links_still_to_come(mesh: OutsideMesh) -> None:
    tell(mesh, "start a-0 1 - 0 1 7", "start a-1 1 - 0 1 8", "up a-0 1 a-1 1 2 7", "up a-1 1 a-0 1 2 8")
    tell(mesh, "start a-1 2 - 0 5 9")
    assert mesh.meshed("a-1", 2) is None
    assert mesh.find("start", "a-1") == Report("start", "a-1", 2, "-", 0, 5, 9)
    assert mesh.find("start", "a-1", 1) == Report("start", "a-1", 1, "-", 0, 1, 8)


def test_what_does_not_come_is_said(mesh: OutsideMesh) -> None:
    with pytest.raises(Stuck, match=r"^the sun did not come within 0\.01 s"):
        mesh.until(lambda: None, 0.01, "the sun")


@pytest.fixture
def waiter() -> Iterator[int]:
    """A process of the mesh NAME, well past its exec."""
    with subprocess.Popen(
        ["sh", "-c", "echo up; read line"],
        env={"MESHVISOR_MESH": f"{NAME}:1:2:3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"up\n"
            yield process.pid
        finally:
            process.kill()


def test_a_process_belongs_to_the_mesh_that_its_environment_names(waiter: int) -> None:
    assert proc.belongs(waiter, NAME)
    assert not proc.belongs(waiter, "unheardof")
    assert proc.identity(waiter) in proc.marked(NAME)


def test_a_process_is_gone_once_it_is_a_zombie(waiter: int) -> None:
    process = proc.identity(waiter)
    assert process is not None
    assert process in proc.descendants(os.getpid())
    assert proc.wait_gone([process], 0) == [process]
    hit(waiter, signal.SIGKILL)
    assert proc.wait_gone([process], 30) == []
    assert waiter in proc.zombies_of(os.getpid())
    assert hit(waiter, signal.SIGKILL) is None
