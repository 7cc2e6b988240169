import errno
import os
from types import SimpleNamespace

import pytest

from meshvisor.supervisor import usage as usage_module
from meshvisor.supervisor.usage import Usage


def test_a_process_costs_something_and_a_dead_one_nothing() -> None:
    cpu, rss = Usage(os.getpid()).measure(uptime=0.001)
    assert cpu == 0.0  # too short a time to say anything
    assert rss > 1_000_000
    usage = Usage(os.getpid())
    assert usage.measure(uptime=1_000_000.0)[0] < 1.0
    assert usage.measure(uptime=1_000_000.0)[0] < 1.0
    assert Usage(2**22 + 1).measure(uptime=1.0) == (0.0, 0)


def test_it_is_looked_at_ten_times_a_second_and_its_share_counts_from_its_birth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, found, looks = 100.0, (0.0, 0), 0

    def cost(pid: int) -> tuple[float, int]:
        nonlocal looks
        looks += 1
        return found

    monkeypatch.setattr("meshvisor.supervisor.procfs.usage", cost)
    monkeypatch.setattr(usage_module, "time", SimpleNamespace(monotonic=lambda: now))
    usage = Usage(1)
    found = (0.04, 1000)
    assert usage.measure(uptime=0.05) == (0.0, 1000)  # too young for a share
    now, found = 100.05, (0.09, 2000)
    assert usage.measure(uptime=0.10) == (0.0, 1000)
    now = 100.15
    assert usage.measure(uptime=0.20) == (45.0, 2000)  # 90 ms in 200 ms
    now, found = 100.65, (0.09, 2000)
    assert usage.measure(uptime=0.70) == (0.0, 2000)
    assert looks == 3


def test_a_process_that_cannot_be_looked_at_costs_nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    usage = Usage(os.getpid())
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert usage.measure(uptime=1.0) == (0.0, 0)
    assert usage.measure(uptime=1.0)[1] > 1_000_000
