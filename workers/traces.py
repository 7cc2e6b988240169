"""The last words of a worker that hangs: the tracebacks of all its threads, written on a signal."""

from __future__ import annotations

import faulthandler

from ..shared.control.lifeline import TRACES_SIGNAL


def register(descriptor: int) -> None:
    """Have the tracebacks of all threads written to ``descriptor`` at each ``TRACES_SIGNAL``.

    The handler is C and takes no lock: it runs while the loop is stuck in a callback, in C code, or waits for the GIL.
    """
    faulthandler.register(TRACES_SIGNAL, file=descriptor, all_threads=True)
