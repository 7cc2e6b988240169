"""How a mesh is now: ``status``."""

from __future__ import annotations

import sys

import click

from .options import client_of, json_option, mesh_options


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
        click.echo(msgspec.json.encode(found).decode())
    else:
        click.echo(render(found, time.time(), colour=wants_colour(sys.stdout.isatty())), nl=False, color=True)
