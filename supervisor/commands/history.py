"""What has happened in a mesh: ``why``."""

from __future__ import annotations

import sys

import click

from .options import client_of, json_option, located, mesh_options, slot_names


@click.command()
@click.argument("slot", required=False, shell_complete=slot_names)
@mesh_options
@click.option("--now", is_flag=True, help="Show instead where the threads of SLOT are at this moment.")
@json_option
def why(slot: str | None, file: str | None, name: str | None, now: bool, as_json: bool) -> None:
    """Tell the latest incident (of SLOT), also when nothing runs any more."""
    from ..style import wants_colour
    from ..why import Past, trace

    if now and slot is None:
        raise click.UsageError("--now needs a slot", click.get_current_context())
    if now and slot is not None:
        with client_of(file, name) as client:
            click.echo(trace(client, slot, as_json=as_json), nl=False)
        return
    past = Past.of_mesh(*located(file, name))
    if as_json:
        click.echo(past.latest_json(slot))
    else:
        click.echo(past.story(slot, colour=wants_colour(sys.stdout.isatty())), nl=False, color=True)
