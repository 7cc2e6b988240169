"""A network namespace of one's own, with one interface whose other end is a file: what this process sends can be read
there, and what is written there arrives.

Nothing but system calls is used, and nothing has a name outside: the namespace lives as long as the process in it and
the file are held, whatever kills their holders. ``python -m tests.network.namespace`` says what is missing for all
this, and nothing if it is all there.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000  # linux/sched.h
_TUN_SET_IFF, _TUN_SET_CARRIER = 0x400454CA, 0x400454E2  # linux/if_tun.h
_TUN, _NO_INFORMATION = 0x0001, 0x1000
# linux/sockios.h
_GET_FLAGS, _SET_FLAGS, _SET_ADDRESS, _SET_MASK, _SET_MTU = 0x8913, 0x8914, 0x8916, 0x891C, 0x8922
_UP = 0x1
_MTU = 1400

_ROOT = Path(__file__).resolve().parents[2]
_NAME = b"w0"


def enter() -> None:
    """Move this process, which must have one thread only, to an empty network namespace.

    Who is not root becomes all-powerful in a user namespace first, and nowhere else.

    Raises:
        OSError: If the machine does not allow it.
    """
    try:
        _unshare(_NEW_NET)
    except PermissionError:
        _unshare(_NEW_USER | _NEW_NET)


def _unshare(flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Interface:
    """The one interface of this process's namespace, up, with ``address`` in a network of 24 bits.

    ``fd`` is its other end: one IPv4 packet at each read and write. It is the caller's to close.

    Raises:
        OSError: If the machine does not allow it.
    """

    def __init__(self, address: str) -> None:
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self.fd, _TUN_SET_IFF, struct.pack("16sH14x", _NAME, _TUN | _NO_INFORMATION))
            self._ask(_SET_MTU, struct.pack("i12x", _MTU))
            self.set_address(address)
            self.set_up(True)
        except BaseException:
            os.close(self.fd)
            raise

    def set_address(self, address: str) -> None:
        """Have ``address`` instead of the one so far, which is gone."""
        for request, value in ((_SET_ADDRESS, address), (_SET_MASK, "255.255.255.0")):
            self._ask(request, struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(value)))

    def set_up(self, up: bool) -> None:
        """Switch it on or off, as ``ip link set`` does."""
        (flags,) = struct.unpack_from("H", self._ask(_GET_FLAGS, bytes(16)), 16)
        self._ask(_SET_FLAGS, struct.pack("H14x", flags | _UP if up else flags & ~_UP))

    def _ask(self, request: int, argument: bytes) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            return fcntl.ioctl(sock, request, struct.pack("16s", _NAME) + argument + bytes(8))


def set_carrier(fd: int, on: bool) -> None:
    """Plug the cable of the interface whose other end is ``fd`` in, or pull it; any process that has it may."""
    fcntl.ioctl(fd, _TUN_SET_CARRIER, struct.pack("I", on))


def why_not(enter: Callable[[], None], open_interface: Callable[[], None]) -> str:
    """Return what is missing for a namespace with an interface, in words; empty if both can be had."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    try:
        enter()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return "no network namespace: neither CAP_SYS_ADMIN nor unprivileged user namespaces are to be had"
        if error.errno in (errno.EINVAL, errno.ENOSYS):
            return "no network namespace: this kernel was built without them"
        return f"no network namespace: {error.strerror}"
    try:
        open_interface()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return "no tun interface: /dev/net/tun, or the kernel's driver behind it, is missing"
        if error.errno in (errno.EPERM, errno.EACCES):
            return "no tun interface: this user may not open /dev/net/tun"
        return f"no tun interface: {error.strerror}"
    return ""


@cache
def missing() -> str:
    """Return what this machine lacks for the tests of this folder, in words; empty if nothing."""
    command = [sys.executable, "-m", "tests.network.namespace"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.stdout.write(why_not(enter, lambda: os.close(Interface("10.77.0.1").fd)) + "\n")
