"""Descriptors that are kept back."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from meshvisor.supervisor.reserve import Reserve


def count() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def nothing_left() -> Iterator[None]:
    """Use up all descriptors of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count() + 64, hard))
    used = []
    with suppress(OSError):
        while True:
            used.append(os.dup(0))
    try:
        yield
    finally:
        for descriptor in used:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_given_up_is_there_for_others_until_there_is_enough_again() -> None:
    before = count()
    reserve = Reserve(4)
    assert count() == before + 4
    with nothing_left():
        assert reserve.restock()  # it is all there
        reserve.spend()
        others = [os.dup(0) for _ in range(4)]
        assert not reserve.restock()
        for descriptor in others:
            os.close(descriptor)
        assert reserve.restock()
        reserve.spend()
    reserve.close()
    assert count() == before


def test_a_part_of_it_is_not_kept_from_others() -> None:
    reserve = Reserve(4)
    with nothing_left():
        reserve.spend()
        other = os.dup(0)
        assert not reserve.restock()
        others = [os.dup(0) for _ in range(3)]
        for descriptor in (other, *others):
            os.close(descriptor)
    reserve.close()


def test_a_closed_one_stands_in_nobodys_way() -> None:
    before = count()
    reserve = Reserve(4)
    reserve.close()
    assert reserve.restock()
    assert count() == before
