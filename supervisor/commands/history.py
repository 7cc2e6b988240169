"""What has happened in a mesh: ``logs``, ``why``."""

from __future__ import annotations

import sys

import click

from .options import Following, client_of, following_options, json_option, located, mesh_options, slot_names

_STDOUT = 1


@click.command()
@click.argument("slot", required=False, shell_complete=slot_names)
@mesh_options
@click.option("--now", is_flag=True, help="Show instead where the threads of SLOT are at this moment.")
@json_option
def why(slot: str | None, file: str | None, name: str | None, now: bool, as_json: bool) -> None:
    """Tell the latest incident (of SLOT), also when nothing runs any more."""
    from ..story import Paper
    from ..style import Look
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
        look = Look.of(_STDOUT, sys.stdout.encoding)
        paper = Paper(look.columns() if look.columns else None, look.colour)
        click.echo(past.story(slot, paper), nl=False, color=True)


def _count(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """Return the number of lines that was given; None: all."""
    if value == "all":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number of lines nor 'all'", context, parameter)
    return int(value)


@click.command(cls=Following)
@click.argument("slots", nargs=-1, metavar="[SLOT]...", shell_complete=slot_names)
@following_options
@click.option("-n", "--lines", metavar="N|all", default="100", callback=_count, help="The last so many (default: 100).")
@click.option("-t", "--times", is_flag=True, help="Say when each line was printed.")
@json_option
def logs(
    slots: tuple[str, ...],
    file: str | None,
    name: str | None,
    follow: bool,
    lines: int | None,
    times: bool,
    as_json: bool,
) -> int:
    """Show what the slots have printed (default: all of them), in the order of time, also when nothing runs.

    A worker's name means all of its slots; those that have gone have their names still.
    """
    from ..lines import Source, json_lines
    from ..style import Look

    source = Source(*located(file, name), slots)
    as_lines = json_lines if as_json else source.text_of(Look.of(_STDOUT, sys.stdout.encoding), times=times)
    try:
        for batch in source.read(lines, followed_by=_STDOUT if follow else None):
            click.echo(as_lines(batch), nl=False, color=True)
    except KeyboardInterrupt:
        if not follow:
            raise
    return 0
