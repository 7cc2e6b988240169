"""Where there can be no namespaces, the reason is said; where there can be, nothing of this one is seen in them."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.network.namespace import missing, why_not

ROOT = Path(__file__).resolve().parents[2]

ALONE = """
import os, socket
from tests.network.namespace import Interface, enter
enter()
assert socket.if_nameindex() == [(1, "lo")], socket.if_nameindex()
interface = Interface("10.77.0.1")
interface.set_address("10.77.0.9")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.connect(("10.77.0.2", 9))
    print(sock.getsockname()[0])
    sock.send(b"hello")
while (packet := os.read(interface.fd, 2000))[0] >> 4 != 4:
    pass
print(packet[28:].decode())
"""


def fails(code: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(code, os.strerror(code))

    return fail


def works() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EPERM, "neither CAP_SYS_ADMIN nor unprivileged user namespaces"),
        (errno.EINVAL, "this kernel was built without them"),
        (errno.ENOSPC, "No space left on device"),  # the limit of /proc/sys/user/max_net_namespaces
    ],
)
def test_without_a_namespace_the_reason_is_why_there_is_none(code: int, reason: str) -> None:
    assert why_not(fails(code), works).startswith("no network namespace: ")
    assert reason in why_not(fails(code), works)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOENT, "/dev/net/tun, or the kernel's driver behind it, is missing"),
        (errno.EACCES, "this user may not open /dev/net/tun"),
        (errno.EBUSY, "Device or resource busy"),
    ],
)
def test_without_an_interface_the_reason_is_why_there_is_none(code: int, reason: str) -> None:
    assert why_not(works, fails(code)).startswith("no tun interface: ")
    assert reason in why_not(works, fails(code))


def test_with_both_there_is_no_reason() -> None:
    assert why_not(works, works) == ""


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_in_a_namespace_there_is_nothing_but_what_was_made_there_and_its_packets_come_out_of_the_file() -> None:
    before = os.listdir("/sys/class/net")

    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.stdout, done.stderr) == ("10.77.0.9\nhello\n", "")
    assert os.listdir("/sys/class/net") == before
