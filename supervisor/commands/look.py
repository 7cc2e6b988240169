"""How a mesh is now: ``status``, ``top``."""

from __future__ import annotations

import sys

import click

from .options import client_of, json_option, located, mesh_options

_STDOUT = 1


@click.command()
@mesh_options
@json_option
def status(file: str | None, name: str | None, as_json: bool) -> None:
    """Show how a running mesh is."""
    import time

    import msgspec

    from ..status import render
    from ..style import wants_colour

    with client_of(file, name) as client:
        found = client.status()
    if as_json:
        facts = msgspec.to_builtins(found)
        del facts["blacklist"]  # that is what `blacklist list --json` answers
        click.echo(msgspec.json.encode(facts).decode())
    else:
        click.echo(render(found, time.time(), colour=wants_colour(sys.stdout.isatty())), nl=False, color=True)


@click.command()
@mesh_options
@json_option
def top(file: str | None, name: str | None, as_json: bool) -> None:
    """Look at a running mesh: slots, links and incidents, once a second. Off a terminal: one picture.

    The keys are told by ?; q ends it.
    """
    from rich.console import Console

    from ..remains import remains_of
    from ..style import Look
    from ..top import frame
    from ..top.marks import Marks
    from ..top.screen import Screen
    from ..top.session import Session, end_as

    base, name, path = located(file, name)
    log_dir, _ = remains_of(base, name, path)
    seen = Look.of(_STDOUT, sys.stdout.encoding)
    marks = Marks(unicode=seen.unicode, colour=seen.colour)
    if as_json or seen.columns is None:
        facts, matrix = frame.look(base, name, log_dir)
        if as_json:
            click.echo(frame.as_json(facts, matrix))
        else:
            click.echo(frame.as_text(facts, matrix, marks), nl=False)
        return
    screen = Screen(Console(force_terminal=True, no_color=not seen.colour, highlight=False))
    if (ended_by := Session(base, name, log_dir, screen, marks).run()) is not None:
        end_as(ended_by)
