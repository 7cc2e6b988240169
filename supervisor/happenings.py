"""Events as ``supervise events`` shows them: a line for a person, an object for a program."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from ..shared.control.requests import Happened
from .cells import clean
from .event import Event, describe
from .output import colour_of
from .style import DIM, paint


def as_event(happened: Happened) -> Event:
    """Return what a client heard as what the supervisor said."""
    return Event(happened.at, happened.event, happened.slot, happened.incarnation, happened.details)


def as_json(happened: Happened) -> str:
    """Return the event as one object: DESIGN's fields, then its facts."""
    facts: dict[str, Any] = {
        "at": happened.at,
        "event": happened.event,
        "slot": happened.slot,
        "incarnation": happened.incarnation,
        **happened.details,
        "number": happened.number,
    }
    return msgspec.json.encode(facts).decode()


def as_line(happened: Happened, *, colour: bool = False) -> str:
    """Return the event as one line, with the time of the day; before today, with the day."""
    event = as_event(happened)
    try:
        text = describe(event)
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        OverflowError,
    ):  # of a release that tells other facts of it
        text = f"{event.slot} {event.event}".strip()
    hue = colour_of(event)
    said = paint(clean(text), hue if hue != DIM else None, on=colour)
    return f"{paint(_when(event.at), DIM, on=colour)}  {said}"


def _when(at: float) -> str:
    moment, now = time.localtime(at), time.localtime()
    day = "" if moment[:3] == now[:3] else time.strftime("%Y-%m-%d ", moment)
    return f"{day}{time.strftime('%H:%M:%S', moment)}.{int(at % 1 * 1000):03d}"
