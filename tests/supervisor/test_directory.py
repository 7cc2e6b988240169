"""The runtime directory: safe, exclusive, and gone in the end."""

import os
import socket
from pathlib import Path

import pytest

from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.client import Client
from meshvisor.supervisor.directory import RuntimeDirectory, base_directory, find_running, running_file


def hold(base: Path, name: str = "m") -> RuntimeDirectory:
    return RuntimeDirectory(base, name, Path("/etc/mesh.toml"))


def test_the_directory_is_ours_alone_and_goes_away(tmp_path: Path) -> None:
    base = tmp_path / "deep" / "run"
    directory = hold(base)
    assert directory.path == base / "m"
    assert [os.stat(path).st_mode & 0o777 for path in (base, directory.path)] == [0o700, 0o700]
    assert (directory.path / "lock").read_text() == f"{os.getpid()}\n/etc/mesh.toml\n"
    assert find_running(base, "m") == os.getpid()
    directory.close()
    directory.close()
    assert list(base.iterdir()) == []
    assert find_running(base, "m") is None


def test_a_second_holder_is_refused_with_pid_and_file(tmp_path: Path) -> None:
    directory = hold(tmp_path / "run")
    with pytest.raises(SupervisorError) as refusal:
        hold(tmp_path / "run")
    assert str(refusal.value) == (f"another supervisor already runs the mesh 'm' (pid {os.getpid()}, /etc/mesh.toml)")
    hold(tmp_path / "run", "other").close()
    directory.close()
    hold(tmp_path / "run").close()


def test_what_a_dead_supervisor_left_is_removed(tmp_path: Path) -> None:
    base = tmp_path / "run"
    (base / "m").mkdir(parents=True, mode=0o700)
    base.chmod(0o700)
    (base / "m" / "lock").write_text("1\n/old/mesh.toml\n")
    (base / "m" / "control").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(base / "m" / "a.1.sock"))
    assert find_running(base, "m") is None
    directory = hold(base)
    assert os.listdir(directory.path) == ["lock"]
    directory.close()


def test_the_control_socket_can_be_reached_however_long_the_path_is(tmp_path: Path) -> None:
    base = tmp_path / ("x" * 100) / ("y" * 100)
    directory = hold(base)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(directory.control_path)
        assert (base / "m" / "control").is_socket()
    directory.remove("control")
    directory.remove("control")
    assert not (base / "m" / "control").exists()
    directory.close()


def test_directories_that_others_could_tamper_with_are_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(SupervisorError, match=r"open to others \(mode 0755\); chmod 700 "):
        hold(tmp_path / "open")
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(SupervisorError, match="is a symbolic link"):
        hold(tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(SupervisorError, match="is not a directory"):
        hold(tmp_path / "file")
    (tmp_path / "real" / "m").symlink_to(tmp_path)
    with pytest.raises(SupervisorError, match="is a symbolic link"):
        hold(tmp_path / "real")


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(SupervisorError, match="belongs to another user"):
        hold(tmp_path / "run")


def test_a_directory_that_cannot_be_made_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SupervisorError, match=r"cannot make the runtime directory .*: Not a directory"):
        hold(tmp_path / "file" / "deep" / "run")


def test_a_refusal_leaves_no_descriptor_open(tmp_path: Path) -> None:
    directory = hold(tmp_path / "run")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SupervisorError):
        hold(tmp_path / "run")
    assert os.listdir("/proc/self/fd") == before
    directory.close()


def test_the_base_is_as_configured_or_as_the_environment_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", "/own")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/session")
    assert base_directory(Path("/configured")) == Path("/configured")
    assert base_directory(None) == Path("/own")
    monkeypatch.delenv("MESHVISOR_RUNTIME_DIR")
    assert base_directory(None) == Path("/session/meshvisor")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert base_directory(None) == Path(f"/tmp/meshvisor-{os.getuid()}")


def test_nothing_runs_where_there_is_nothing(tmp_path: Path) -> None:
    assert find_running(tmp_path, "m") is None


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_nobody_is_taken_for_our_supervisor_in_a_directory_that_is_not_ours_alone(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may make /tmp/meshvisor-UID before we do, lock what is in it, and answer what we ask."""
    directory = hold(tmp_path / "run")
    directory.path.chmod(mode)
    if mode == 0o700:
        monkeypatch.setattr(os, "getuid", lambda: 4711)
    before = os.listdir("/proc/self/fd")
    for look in (find_running, running_file, Client):
        with pytest.raises(SupervisorError, match=r"belongs to another user|open to others \(mode 0777\)"):
            look(tmp_path / "run", "m")
    assert os.listdir("/proc/self/fd") == before
    directory.close()


def test_a_link_in_the_place_of_a_mesh_is_no_mesh_that_runs(tmp_path: Path) -> None:
    directory = hold(tmp_path / "run")
    (tmp_path / "run" / "link").symlink_to(directory.path)
    assert find_running(tmp_path / "run", "link") is None
    assert find_running(tmp_path / "run", "m") == os.getpid()
    directory.close()
