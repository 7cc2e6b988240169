"""``supervise top`` where there is no terminal: one picture, or one object for programs."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from ..client import Client
from .facts import Facts, Observer
from .marks import Marks
from .matrix import Matrix, matrix_of
from .past import Past
from .picture import View, picture

_MOMENT = 0.5
"""Seconds between two looks: what happens each second shows in no single one."""
_INCIDENTS = 20
_WIDTH = 100


def look(base: Path, name: str, log_dir: Path) -> tuple[Facts, Matrix]:
    """Return how a mesh is, and its links.

    Raises:
        NotRunning: If it does not run.
    """
    observer, past = Observer(name), Past(log_dir)
    with Client(base, name) as client:
        client.status()
        observer.links(client.links())
        time.sleep(_MOMENT)
        links = client.links()
        observer.links(links)
        observer.status(client.status(), time.monotonic())
    observer.incidents(past.more())
    past.close()
    return observer.facts(time.monotonic(), time.time()), matrix_of(links)


def as_text(facts: Facts, matrix: Matrix, marks: Marks) -> str:
    """Return everything as text without colours."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    lines = picture(facts, matrix, View(), replace(marks, colour=False), width, None)
    return "".join(line.plain.rstrip() + "\n" for line in lines)


def as_json(facts: Facts, matrix: Matrix) -> str:
    """Return the same for programs. Of each slot what ``status`` says, and besides:

    ``lag`` (seconds), ``received`` and ``sent`` (messages and calls a second); null where that is not known.
    """
    workers = [
        {
            **msgspec.to_builtins(slot.status),
            "lag": slot.node.lag if slot.node is not None else None,
            "received": _rounded(slot.received),
            "sent": _rounded(slot.sent),
        }
        for slot in facts.slots
    ]
    links = matrix.summary
    found: dict[str, Any] = {
        "mesh": facts.mesh,
        "pid": facts.pid,
        "state": facts.state,
        "uptime": facts.uptime,
        "workers": workers,
        "links": {"wanted": links.wanted, "up": links.up, "doubted": links.doubted},
        "incidents": facts.incidents[:_INCIDENTS],
    }
    return msgspec.json.encode(found).decode()


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)
