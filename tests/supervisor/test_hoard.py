"""Descriptors that are kept back."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from meshvisor.supervisor.hoard import Hoard


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
    hoard = Hoard(4)
    assert count() == before + 4
    with nothing_left():
        assert hoard.restock()  # it is all there
        hoard.spend()
        others = [os.dup(0) for _ in range(4)]
        assert not hoard.restock()
        for descriptor in others:
            os.close(descriptor)
        assert hoard.restock()
        hoard.spend()
    hoard.close()
    assert count() == before


def test_a_part_of_it_is_not_kept_from_others() -> None:
    hoard = Hoard(4)
    with nothing_left():
        hoard.spend()
        other = os.dup(0)
        assert not hoard.restock()
        others = [os.dup(0) for _ in range(3)]
        for descriptor in (other, *others):
            os.close(descriptor)
    hoard.close()


def test_a_closed_one_stands_in_nobodys_way() -> None:
    before = count()
    hoard = Hoard(4)
    hoard.close()
    assert hoard.restock()
    assert count() == before
