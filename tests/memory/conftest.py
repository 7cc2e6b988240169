"""Blacklists that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.memory.tools import Clock

from meshvisor.shared.memory.blacklist import SharedBlacklist


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blacklist(clock: Clock) -> Iterator[SharedBlacklist]:
    with SharedBlacklist.create(source="first", clock=clock) as made:
        yield made


@pytest.fixture
def attach(blacklist: SharedBlacklist, clock: Clock) -> Iterator[Callable[..., SharedBlacklist]]:
    """Open the blacklist once more, as another process would."""
    opened: list[SharedBlacklist] = []

    def open_once_more(source: str = "second", **options: Any) -> SharedBlacklist:
        other = SharedBlacklist.attach(blacklist.fileno(), source=source, **{"clock": clock} | options)
        opened.append(other)
        return other

    yield open_once_more
    for other in opened:
        other.close()
