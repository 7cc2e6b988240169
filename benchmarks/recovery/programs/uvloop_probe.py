"""The worker that others measure (``tests/outside/probe.py``, found in its ``cwd``), on uvloop."""

import asyncio

import uvloop
from probe import Probe as Probe  # type: ignore[import-not-found]

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
