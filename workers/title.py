"""How this process shows in ``ps``."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol


class _Setter(Protocol):
    def __call__(self, title: str, /) -> None: ...


def set_title(title: str) -> None:
    """Show ``title``. The first call takes milliseconds; a zygote makes it for all that are forked from it."""
    _setter()(title)


@cache
def _setter() -> _Setter:
    from setproctitle import getproctitle, setproctitle

    # By default the title would be written over /proc/PID/environ too, by which the next supervisor would know this
    # process as one of a mesh that is gone. The first call of either function decides that for good.
    os.environ["SPT_NOENV"] = "1"
    getproctitle()
    del os.environ["SPT_NOENV"]
    return setproctitle
