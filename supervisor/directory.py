"""The runtime directory of a mesh: where its sockets are, and the lock that makes its supervisor the only one.

    BASE/            0700, ours, no link
      NAME/          0700: one mesh
        lock         held (flock) as long as its supervisor lives; "PID\\nCONFIGURATION FILE\\n"
        control      the supervisor's socket for clients
        events       where it publishes what happens
        attach.sock  where other processes get at the shared memory
        SLOT.N.sock  a worker's listener

The kernel frees the lock when its holder dies, however it dies: what else is in the directory is then stale.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path

from ..shared.errors import SupervisorError

_LOCK = "lock"
_ATTEMPTS = 20
_PID = re.compile(r"[0-9]{1,10}")


def base_directory(configured: Path | None) -> Path:
    """Return the directory above those of the meshes: as configured, else as the environment has it."""
    if configured is not None:
        return configured
    if own := os.environ.get("MESHVISOR_RUNTIME_DIR"):
        return Path(own).absolute()
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(session).absolute() / "meshvisor"
    return Path(f"/tmp/meshvisor-{os.getuid()}")


def why_silent(pid: int) -> str:
    """Return what there is to add when a supervisor does not answer: that it is stopped, and what helps; else empty."""
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stat:
        if stat.read().rpartition(b")")[2].split()[0] == b"T":
            return f"; it is stopped, kill -CONT {pid} lets it go on"
    return ""


def open_directory(base: Path, name: str) -> int:
    """Return an ``O_PATH`` descriptor of the directory of the mesh called ``name``: what is in there is our user's.

    Anybody may make a directory in /tmp that is called as ours will be, and answer there in a supervisor's place.

    Raises:
        OSError: If it is not there.
        SupervisorError: If it is somebody else's, or open to others.
    """
    path = base / name
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_facts(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def find_running(base: Path, name: str) -> int | None:
    """Return the pid of the supervisor that runs the mesh called ``name``, or None.

    Raises:
        SupervisorError: If somebody else could have put there what says so.
    """
    lock = _open_lock(base, name)
    if lock is None:
        return None
    try:
        for _ in range(_ATTEMPTS):
            if _try_lock(lock, shared=True):
                return None
            pid, _ = _read_holder(lock)
            if pid is not None:
                return pid
            time.sleep(0.001)  # its holder has just begun and is about to write its pid
        return None
    finally:
        os.close(lock)


def running_file(base: Path, name: str) -> Path | None:
    """Return the configuration file that the supervisor of the mesh called ``name`` was started with, or None."""
    if find_running(base, name) is None or (lock := _open_lock(base, name)) is None:
        return None
    try:
        return Path(_read_holder(lock)[1])
    finally:
        os.close(lock)


def _open_lock(base: Path, name: str) -> int | None:
    with suppress(OSError):
        directory = open_directory(base, name)
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            return os.open(_LOCK, flags, dir_fd=directory)
        finally:
            os.close(directory)
    return None


class NotRunning(SupervisorError):
    """No supervisor runs the mesh."""

    def __init__(self, mesh: str) -> None:
        self.mesh = mesh
        super().__init__(mesh)

    def __str__(self) -> str:
        return f"the mesh {self.mesh!r} is not running"


class RuntimeDirectory:
    """The directory of one running mesh, ours as long as this object is open.

    ``fd`` is an ``O_PATH`` descriptor of it; through ``/proc/self/fd`` sockets can be reached whose full path would be
    too long for an address.

    Raises:
        SupervisorError: If the base is not safe to use, or another supervisor runs this mesh (naming its pid and file).
    """

    def __init__(self, base: Path, name: str, file: Path) -> None:
        self.path = base / name
        _make_base(base)
        self.fd = -1
        self._lock = -1
        for _ in range(_ATTEMPTS):
            if self._take(file):
                break
            time.sleep(0.002)  # a client that looks at the lock holds it for a moment
        else:
            raise SupervisorError(self._refusal())
        self._clean()

    @property
    def control_path(self) -> str:
        """The address of the control socket, of any length of ``path``, for this process only."""
        return f"/proc/self/fd/{self.fd}/control"

    @property
    def events_path(self) -> str:
        """The same of the socket for events."""
        return f"/proc/self/fd/{self.fd}/events"

    def remove(self, name: str) -> None:
        """Remove a file of the directory, if it is there."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.fd)

    def close(self) -> None:
        """Remove everything, the lock last, and let the mesh go."""
        if self.fd < 0:
            return
        self._clean()
        # Unlinked while it is held: whoever opens the old file and gets the lock finds out that it is no more.
        self.remove(_LOCK)
        with suppress(OSError):
            os.rmdir(self.path)
        self._release()

    def _take(self, file: Path) -> bool:
        try:
            with suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
            _check_safe(self.path)
            self.fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(_LOCK, flags, 0o600, dir_fd=self.fd)
        except FileNotFoundError:  # its last holder is removing it at this moment
            self._release()
            return False
        except OSError as error:
            self._release()
            raise SupervisorError(f"cannot use {self.path}: {error.strerror}") from error
        if not _try_lock(self._lock, shared=False) or not self._lock_is_current():
            self._release()
            return False
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n{file}\n".encode(errors="surrogateescape"), 0)
        return True

    def _lock_is_current(self) -> bool:
        try:
            found = os.stat(self.path / _LOCK, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._lock))

    def _refusal(self) -> str:
        pid, file = None, ""
        with suppress(OSError), open(self.path / _LOCK, "rb") as lock:
            pid, file = _read_holder(lock.fileno())
        holder = f"pid {pid}, {file}" if pid is not None else f"its lock is {self.path / _LOCK}"
        return f"another supervisor already runs the mesh {self.path.name!r} ({holder})"

    def _clean(self) -> None:
        """Remove what is there but the lock: sockets of processes that are gone."""
        with suppress(OSError):
            for entry in os.listdir(self.path):
                if entry != _LOCK:
                    self.remove(entry)

    def _release(self) -> None:
        for descriptor in (self._lock, self.fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self.fd = -1


def _make_base(base: Path) -> None:
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            base.mkdir(mode=0o700)
        _check_safe(base)
    except OSError as error:
        raise SupervisorError(f"cannot make the runtime directory {base}: {error.strerror}") from error


def _check_safe(path: Path) -> None:
    """Refuse a directory that somebody else could have put there, or can reach into."""
    _check_facts(path, os.stat(path, follow_symlinks=False))


def _check_facts(path: Path, facts: os.stat_result) -> None:
    if stat.S_ISLNK(facts.st_mode):
        raise SupervisorError(f"the runtime directory {path} is a symbolic link; name the directory itself")
    if not stat.S_ISDIR(facts.st_mode):
        raise SupervisorError(f"the runtime directory {path} is not a directory")
    if facts.st_uid != os.getuid():
        raise SupervisorError(f"the runtime directory {path} belongs to another user (uid {facts.st_uid})")
    mode = stat.S_IMODE(facts.st_mode)
    if mode & 0o077:
        raise SupervisorError(f"the runtime directory {path} is open to others (mode {mode:04o}); chmod 700 {path}")


def _try_lock(descriptor: int, *, shared: bool) -> bool:
    import fcntl  # not everywhere: where there is none, Supervisor says so in one sentence instead of this import

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(lock: int) -> tuple[int | None, str]:
    lines = os.pread(lock, 16_384, 0).decode(errors="surrogateescape").split("\n")
    if len(lines) < 3 or not _PID.fullmatch(lines[0]):
        return None, ""
    return int(lines[0]), lines[1]
