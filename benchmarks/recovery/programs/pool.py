"""A ``multiprocessing.Pool`` whose processes say that they run: ``pool.py STAMPS COUNT [imports]``."""

import multiprocessing
import os
import signal
import sys
import time

if "imports" in sys.argv:
    import asyncio  # noqa: F401

    import msgspec  # noqa: F401
    import psutil  # noqa: F401
    import zmq  # noqa: F401


def begin() -> None:
    """Say so."""
    os.write(stamps, b"%d %d\n" % (os.getpid(), time.monotonic_ns()))


if __name__ == "__main__":
    stamps = os.open(sys.argv[1], os.O_WRONLY)
    with multiprocessing.get_context("fork").Pool(int(sys.argv[2]), begin):
        signal.sigwait([signal.SIGTERM])
