import os

from meshvisor.supervisor.usage import Usage


def test_a_process_costs_something_and_a_dead_one_nothing() -> None:
    cpu, rss = Usage(os.getpid()).measure(uptime=0.001)
    assert cpu == 0.0  # too short a time to say anything
    assert rss > 1_000_000
    usage = Usage(os.getpid())
    assert usage.measure(uptime=1_000_000.0)[0] < 1.0
    assert usage.measure(uptime=1_000_000.0)[0] < 1.0
    assert Usage(2**22 + 1).measure(uptime=1.0) == (0.0, 0)
