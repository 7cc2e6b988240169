"""``blacklist``: see which endpoints are barred, and bar or free one."""

from __future__ import annotations

import json
import sys

import click

from .options import blacklist_of, json_option, mesh_options


def _endpoint(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the key of the endpoint that was named."""
    from ...shared.core.endpoint import Endpoint
    from ...shared.core.penalties import MAX_KEY

    if value is None:
        return None
    try:
        key = Endpoint.parse(value).key
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    if len(key.encode()) > MAX_KEY:
        raise click.BadParameter(f"{key!r} is longer than {MAX_KEY} bytes", context, parameter)
    return key


def _duration(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """Return the seconds that were named, as in mesh.toml."""
    from ...shared.config.values import seconds

    try:
        return seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.group()
def blacklist() -> None:
    """See which endpoints are barred, and bar or free one."""


@blacklist.command(name="list")
@mesh_options
@json_option
def blacklist_list(file: str | None, name: str | None, as_json: bool) -> None:
    """Show which endpoints are barred for everybody, and for how long."""
    import msgspec

    from ..blacklist import penalties
    from ..style import wants_colour

    with blacklist_of(file, name) as table:
        found = sorted(table.active(), key=lambda penalty: penalty.remaining)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    elif found:
        click.echo("\n".join(penalties(found, colour=wants_colour(sys.stdout.isatty()))), color=True)
    else:
        click.echo("no endpoint is barred")


@blacklist.command(name="add")
@click.argument("key", callback=_endpoint)
@click.option("--duration", default="10s", callback=_duration, help="For how long, at most 5m (default: 10s).")
@click.option("--severity", type=click.Choice(["soft", "hard", "fatal"]), default="hard", help="Default: hard.")
@mesh_options
@json_option
def blacklist_add(key: str, duration: float, severity: str, file: str | None, name: str | None, as_json: bool) -> None:
    """Bar the endpoint KEY (such as tcp:127.0.0.1:4500) for everybody; a longer or worse penalty stays as it is."""
    import msgspec

    from ...shared.core.penalties import FailureSeverity
    from ..blacklist import bar
    from ..event import duration as in_words

    with blacklist_of(file, name) as table:
        penalty = bar(table, key, FailureSeverity(severity), duration)
    if as_json:
        click.echo(msgspec.json.encode(penalty).decode())
    else:
        click.echo(f"{key} is barred for {in_words(penalty.remaining)} ({penalty.severity})")


@blacklist.command(name="clear")
@click.argument("key", required=False, callback=_endpoint)
@mesh_options
@json_option
def blacklist_clear(key: str | None, file: str | None, name: str | None, as_json: bool) -> None:
    """Free the endpoint KEY, or all of them, for everybody; who waits for one dials it at once."""
    from ..blacklist import lift
    from ..cells import clean

    with blacklist_of(file, name) as table:
        freed = lift(table, key)
    if as_json:
        click.echo(json.dumps({"cleared": freed}))
    elif freed:
        click.echo("\n".join(f"{clean(one)} is free" for one in freed))
    else:
        click.echo("no endpoint was barred" if key is None else f"{key} was not barred")
