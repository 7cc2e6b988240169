"""Making a process, and failing to, without leaving anything of it behind."""

import errno
import gc
import os
import pwd
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshvisor.supervisor.child import Exit
from meshvisor.supervisor.confinement import Confinement
from meshvisor.supervisor.reaper import kill_group, reap
from meshvisor.supervisor.spawn import Process, SpawnError, interpreter, spawn_command, spawn_worker

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextmanager
def only_free_descriptors(count: int) -> Iterator[None]:
    """Let exactly ``count`` more descriptors be opened."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 256), limits[1]))
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        for descriptor in taken[len(taken) - count :]:
            os.close(descriptor)
        del taken[len(taken) - count :]
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def end(process: Process) -> Exit:
    """Kill the process, take its death notice, release what it shares with us."""
    kill_group(process.pid)
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    exit = reap(process.pid, process.pidfd)
    for descriptor in (process.pidfd, process.stdout, process.stderr, process.report):
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)
    if process.lifeline is not None:
        process.lifeline.close()
    assert exit is not None
    return exit


@pytest.mark.parametrize("free", range(9))
def test_too_few_descriptors_make_no_process_and_leak_none(tmp_path: Path, free: int) -> None:
    gc.collect()  # what earlier tests have left to it may hold descriptors, and must not give them back in between
    before = open_descriptors()
    with only_free_descriptors(free):
        with pytest.raises(SpawnError, match="cannot start a process: Too many open files"):
            spawn_worker("mesh/a", tmp_path, os.environ)
        with pytest.raises(SpawnError, match="cannot start a process: Too many open files"):
            spawn_command(["true"], tmp_path, os.environ)
    assert open_descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_just_enough_descriptors_make_a_process(tmp_path: Path) -> None:
    before = open_descriptors()
    with only_free_descriptors(9):
        process = spawn_command(["sleep", "1000"], tmp_path, os.environ)
    assert end(process) == Exit(signal="SIGKILL")
    assert open_descriptors() == before


def test_a_process_that_cannot_be_watched_is_not_left_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = open_descriptors()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(SpawnError, match="Too many open files"):
        spawn_worker("mesh/a", tmp_path, os.environ)
    assert open_descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("command", [["a\0b"], ["true", "x" * 10_000_000]], ids=["NUL in it", "too long"])
def test_a_command_that_the_kernel_cannot_take_is_a_failed_start(tmp_path: Path, command: list[str]) -> None:
    with pytest.raises(SpawnError, match=r"cannot start a process: (embedded null byte|Argument list too long)"):
        spawn_command(command, tmp_path, os.environ)


def test_the_launcher_reports_what_keeps_a_command_from_running(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no program\n")
    process = spawn_command([str(script)], tmp_path, os.environ)
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    assert process.report is not None
    assert os.read(process.report, 4096).decode() == f"cannot run {str(script)!r}: Permission denied"
    assert reap(process.pid, process.pidfd) == Exit(code=126)
    for descriptor in (process.pidfd, process.stdout, process.stderr, process.report):
        os.close(descriptor)


def test_a_command_starts_with_default_signals_whatever_surrounds_us(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        process = spawn_command(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"], tmp_path, os.environ)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, before)
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    masks = dict(line.split() for line in os.read(process.stdout, 4096).decode().splitlines())
    end(process)
    # Signals 32 and 33 are the C library's own: no program can set them, and some are started with one ignored.
    assert {name: int(mask, 16) & ~(0b11 << 31) for name, mask in masks.items()} == {"SigBlk:": 0, "SigIgn:": 0}


def test_a_launcher_whose_parent_is_another_one_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    process = spawn_command(["echo", "running"], tmp_path, os.environ)
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    assert os.read(process.stdout, 4096) == b""
    assert end(process) == Exit(code=126)


def test_outside_a_virtual_environment_a_shim_is_replaced_by_the_real_binary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python"
    shim.write_text("#!/bin/sh\n")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(sys, "executable", str(shim))
    assert interpreter() == os.path.realpath("/proc/self/exe")


def test_our_end_of_a_lifeline_never_blocks(tmp_path: Path) -> None:
    process = spawn_worker("mesh/a", tmp_path, os.environ)
    assert isinstance(process.lifeline, socket.socket)
    assert not process.lifeline.getblocking()
    assert not process.lifeline.get_inheritable()
    end(process)


def said_by(process: Process) -> tuple[str, str]:
    """Wait for the end of a command and return what it printed and what its launcher reported."""
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    assert process.report is not None
    said = os.read(process.stdout, 65_536).decode(), os.read(process.report, 4096).decode()
    end(process)
    return said


def test_a_command_is_confined_before_it_runs(tmp_path: Path) -> None:
    confinement = Confinement(nice=7, umask=0o027, limits={"nofile": 123, "core": 0})
    script = "umask; ulimit -n; ulimit -Hn; ulimit -c; ps -o ni= -p $$ || cut -d' ' -f19 /proc/$$/stat"
    process = spawn_command(["sh", "-c", script], tmp_path, os.environ, confinement)
    assert said_by(process)[0].split() == ["0027", "123", "123", "0", "7"]


@as_root
def test_a_command_becomes_its_user_with_all_its_groups(tmp_path: Path) -> None:
    entry = pwd.getpwnam("nobody")
    groups = sorted(os.getgrouplist("nobody", entry.pw_gid))
    script = "id -u; id -g; echo $(id -G | tr ' ' '\n' | sort -n); echo $HOME $USER"
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    process = spawn_command(["sh", "-c", script], Path("/"), environment, Confinement(user="nobody"))
    lines = said_by(process)[0].splitlines()
    assert lines[:2] == [str(entry.pw_uid), str(entry.pw_gid)]
    assert [int(group) for group in lines[2].split()] == groups
    assert lines[3] == f"{entry.pw_dir} nobody"


@as_root
def test_a_command_of_another_user_dies_with_its_parent(tmp_path: Path) -> None:
    program = """if True:
        import os
        from pathlib import Path
        from meshvisor.supervisor.confinement import Confinement
        from meshvisor.supervisor.spawn import spawn_command
        process = spawn_command(["sleep", "1000"], Path("/"), os.environ, Confinement(user="nobody"))
        os.set_blocking(process.report, True)
        assert os.read(process.report, 1) == b""
        print(process.pid, flush=True)
        input()
    """
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        pidfd = os.pidfd_open(pid)
        assert os.stat(f"/proc/{pid}").st_uid == pwd.getpwnam("nobody").pw_uid
        parent.kill()
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(10_000)
    os.close(pidfd)


@pytest.mark.parametrize(
    ("confinement", "report"),
    [
        (Confinement(limits={"nofile": 2**62}), "cannot set limit to nofile:4611686018427387904: "),
        (Confinement(user="no-such-user"), "cannot set user to no-such-user: "),
    ],
)
def test_a_confinement_that_is_not_possible_is_a_failed_start(
    tmp_path: Path, confinement: Confinement, report: str
) -> None:
    out, said = said_by(spawn_command(["echo", "running"], tmp_path, os.environ, confinement))
    assert out == ""
    assert said.startswith(report)


@pytest.mark.parametrize("number", [3, 4, 5, 6, 200])
def test_a_command_gets_a_descriptor_under_the_number_it_expects(tmp_path: Path, number: int) -> None:
    read_end, write_end = os.pipe()
    try:
        # As a digit string for /proc: not every shell redirects to descriptors above 9.
        script = f"echo up > /proc/self/fd/{number}; ls /proc/self/fd | wc -l"
        process = spawn_command(["sh", "-c", script], tmp_path, os.environ, ready=(write_end, number))
        out, _ = said_by(process)
        assert os.read(read_end, 100) == b"up\n"
        assert out.strip() == "5"  # the three, this one, and the one that `ls` has open
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_quiet_command_prints_into_the_void(tmp_path: Path) -> None:
    process = spawn_command(["sh", "-c", "readlink /proc/$$/fd/1 /proc/$$/fd/2"], tmp_path, os.environ, is_quiet=True)
    assert (process.stdout, process.stderr) == (-1, -1)
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    assert reap(process.pid, process.pidfd) == Exit(code=0)
    os.close(process.pidfd)
    assert process.report is not None
    os.close(process.report)
