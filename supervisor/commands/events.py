"""What happens in a running mesh, one event after the other: ``events``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .options import Following, client_of, following_options, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...shared.control.requests import Happened


@click.command(cls=Following)
@click.option("-n", "count", metavar="N", type=click.IntRange(0), default=20, help="Begin with the latest N (20).")
@click.option("--all", "everything", is_flag=True, help="Also what other events tell already; as with --json.")
@following_options
@json_option
def events(count: int, everything: bool, follow: bool, file: str | None, name: str | None, as_json: bool) -> None:
    """Show what has happened in a running mesh.

    One event a line; with -f also those that follow, until the mesh has stopped. With --json each line is an object. A
    reader that is too slow is told, by an event "dropped", how many it missed.
    """
    everything = everything or as_json
    show = _shower(as_json=as_json)
    with client_of(file, name) as client:
        following = client.follow() if follow else None
        for event in _latest(following.recent if following else client.recent(), count, everything=everything):
            show(event)
        try:
            for event in following or ():
                if everything or not _is_minor(event):
                    show(event)
        except KeyboardInterrupt:
            return  # so it was to end


def _latest(events: list[Happened], count: int, *, everything: bool) -> list[Happened]:
    shown = [event for event in events if everything or not _is_minor(event)]
    return shown[len(shown) - count :] if count < len(shown) else shown


def _is_minor(event: Happened) -> bool:
    from ..happenings import as_event

    return as_event(event).is_minor


def _shower(*, as_json: bool) -> Callable[[Happened], None]:
    from ..happenings import as_json as in_json
    from ..happenings import as_line
    from ..style import wants_colour

    colour = wants_colour(sys.stdout.isatty())
    if as_json:
        return lambda event: click.echo(in_json(event))
    return lambda event: click.echo(as_line(event, colour=colour), color=True)
