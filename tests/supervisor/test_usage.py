import errno
import os

import pytest

from meshvisor.supervisor.usage import Usage


def test_a_process_costs_something_and_a_dead_one_nothing() -> None:
    cpu, rss = Usage(os.getpid()).measure(uptime=0.001)
    assert cpu == 0.0  # too short a time to say anything
    assert rss > 1_000_000
    usage = Usage(os.getpid())
    assert usage.measure(uptime=1_000_000.0)[0] < 1.0
    assert usage.measure(uptime=1_000_000.0)[0] < 1.0
    assert Usage(2**22 + 1).measure(uptime=1.0) == (0.0, 0)


def test_a_process_that_cannot_be_looked_at_costs_nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    usage = Usage(os.getpid())
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert usage.measure(uptime=1.0) == (0.0, 0)
    assert usage.measure(uptime=1.0)[1] > 1_000_000
