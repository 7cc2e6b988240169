"""A WSGI application for gunicorn that says when it is loaded; it is gunicorn's configuration, too, when preloaded.

By the environment: STAMPS, IMPORTS (when set), PRELOADED (when set: then the fork is what counts, not the import).
"""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

if "IMPORTS" in os.environ:
    import asyncio  # noqa: F401

    import msgspec  # noqa: F401
    import psutil  # noqa: F401
    import zmq  # noqa: F401


def begin() -> None:
    """Say so."""
    stamps = os.open(os.environ["STAMPS"], os.O_WRONLY)
    os.write(stamps, b"%d %d\n" % (os.getpid(), time.monotonic_ns()))
    os.close(stamps)


def app(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer nothing."""
    start_response("204 No Content", [])
    return []


def post_fork(server: Any, worker: Any) -> None:
    """Be gunicorn's hook in a new worker process."""
    begin()


if "PRELOADED" not in os.environ:
    begin()
