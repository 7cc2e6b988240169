"""What happens in a running mesh, one event after the other: ``events``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .options import client_of, json_option, mesh_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...shared.control.requests import Happened

_FOLLOW = ""


@click.command()
@click.option("-n", "count", type=click.IntRange(0), default=20, help="Begin with so many of the latest (default: 20).")
@click.option("--follow", is_flag=True, help="Then go on with what happens, until the mesh has stopped.")
@click.option("--file", "files", metavar="FILE", type=click.Path(), multiple=True, help="The mesh of this file.")
@click.option(
    "-f",
    "short",
    metavar="[FILE]",
    type=click.Path(),
    multiple=True,
    is_flag=False,
    flag_value=_FOLLOW,
    help="Alone, short for --follow; with FILE, short for --file.",
)
@mesh_name
@click.option("--all", "everything", is_flag=True, help="Also what the events around it tell already (as with --json).")
@json_option
def events(
    count: int,
    follow: bool,
    files: tuple[str, ...],
    short: tuple[str, ...],
    name: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Show what has happened in a running mesh, and with -f what happens, one event a line.

    With --json each line is an object. A reader that is too slow is told, by an event "dropped", how many it missed.
    """
    named = [*files, *(file for file in short if file != _FOLLOW)]
    if len(named) > 1:
        raise click.UsageError("more than one file is named", click.get_current_context())
    show = _shower(as_json=as_json)
    with client_of(named[0] if named else None, name) as client:
        if not follow and _FOLLOW not in short:
            for event in _latest(client.recent(), count, everything=everything or as_json):
                show(event)
            return
        following = client.follow()
        for event in _latest(following.recent, count, everything=everything or as_json):
            show(event)
        for event in following:
            if everything or as_json or not _is_minor(event):
                show(event)


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
