"""The parts of the guide that are made from the program itself, and putting them into their pages.

A page says where: between ``<!-- generated: NAME -->`` and ``<!-- end -->``. ``python -m tests.docs`` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from meshvisor.shared.config import schema

from .blocks import GUIDE
from .command_reference import exits, reference
from .key_reference import key_table

_PLACE = re.compile(r"(<!-- generated: (?P<name>[\w.]+) -->\n).*?(<!-- end -->)", re.DOTALL)

PARTS: Mapping[str, Callable[[], str]] = {
    "mesh": lambda: key_table("mesh", schema.MESH),
    "supervisor": lambda: key_table("supervisor", schema.SUPERVISOR),
    "worker": lambda: key_table("worker", schema.WORKER),
    "backoff": lambda: key_table("backoff", schema.BACKOFF),
    "ready": lambda: key_table("ready", schema.READY),
    "health": lambda: key_table("health", schema.HEALTH),
    "log": lambda: key_table("log", schema.LOG),
    "exits": exits,
    "commands": reference,
}


def filled(text: str) -> str:
    """Return a page with its generated parts as they have to be now.

    Raises:
        KeyError: If it wants a part that there is not.
    """
    return _PLACE.sub(lambda place: f"{place[1]}\n{PARTS[place['name']]().strip()}\n\n{place[3]}", text)


def parts_of(text: str) -> list[str]:
    """Return the names of the generated parts of a page."""
    return [place["name"] for place in _PLACE.finditer(text)]


def generated_pages() -> list[Path]:
    """Return the pages that have generated parts."""
    return [page for page in sorted(GUIDE.glob("*.md")) if parts_of(page.read_text())]
