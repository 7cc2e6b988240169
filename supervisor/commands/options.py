"""What the commands have in common: how a mesh is named on the command line, and how it is reached."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ...shared.memory.blacklist import SharedBlacklist
    from ..client import Client

USAGE = 2
_QUICKLY = 0.1  # seconds that a completion may take beyond the start of the interpreter
_NO_WAIT = "Return as soon as it has begun."

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


def _meshes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a mesh that runs."""
    from ..directory import base_directory

    with suppress(Exception):
        base = base_directory(None)
        found = sorted(name for name in os.listdir(base) if name.startswith(incomplete))
        return [name for name in found if _runs(base, name)]
    return []


def _runs(base: Path, name: str) -> bool:
    from ...shared.errors import SupervisorError
    from ..directory import find_running

    try:
        return find_running(base, name) is not None
    except SupervisorError:  # it is not ours
        return False


def slot_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a slot or worker of the mesh that was named so far; quickly, or not at all."""
    workers = _names(context)
    known = dict.fromkeys([*workers, *(slot for slots in workers.values() for slot in slots)])
    return [name for name in known if name.startswith(incomplete)]


def worker_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a worker, as ``slot_names`` does."""
    return [name for name in _names(context) if name.startswith(incomplete)]


def _names(context: click.Context) -> dict[str, tuple[str, ...]]:
    # Whatever is wrong, the user is typing: nothing may be said now.
    with suppress(Exception), client_of(context.params.get("file"), context.params.get("name"), _QUICKLY) as client:
        return client.names()
    return {}


mesh_name = click.option("--name", metavar="NAME", shell_complete=_meshes, help="The mesh of this name.")
wait_option = click.option("--no-wait", "wait", is_flag=True, default=True, flag_value=False, help=_NO_WAIT)


def mesh_options(command: F) -> F:
    """Add the options that say which mesh is meant: ``file`` and ``name``, both None by default."""
    text = "The mesh of this file (default: ./mesh.toml)."
    file = click.option("-f", "--file", metavar="FILE", type=click.Path(), help=text)
    return file(mesh_name(command))


class Following(click.Command):
    """A command whose ``-f`` follows what comes, as that of ``tail`` does; before a file's name it says which mesh.

    No slot has a dot or a slash in its name, and no usual name of a file is without both.
    """

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Take a ``-f FILE`` for a ``--file FILE``."""
        following = [*arguments, ""][1:]
        return super().parse_args(
            context,
            [
                "--file" if one == "-f" and ("." in after or "/" in after) else one
                for one, after in zip(arguments, following, strict=True)
            ],
        )


def following_options(command: F) -> F:
    """Add the options of a ``Following`` command: ``follow``, and those that say which mesh is meant."""
    follow = click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
    text = "The mesh of this file (default: ./mesh.toml); also -f FILE."
    file = click.option("--file", metavar="FILE", type=click.Path(), help=text)
    return follow(file(mesh_name(command)))


def client_of(file: str | None, name: str | None, timeout: float | None = None) -> Client:
    """Return a connection to the mesh that was named by its file or by its name; answers may take ``timeout``."""
    from ..client import Client

    base, name, _ = located(file, name)
    return Client(base, name, timeout)


def blacklist_of(file: str | None, name: str | None) -> SharedBlacklist:
    """Return the blacklist of the mesh that was named by its file or by its name."""
    from ..attach import attach_blacklist

    base, name, _ = located(file, name)
    return attach_blacklist(base, name, "operator")


def located(file: str | None, name: str | None) -> tuple[Path, str, Path | None]:
    """Return where the mesh that was meant has its runtime directory, its name, and its file if that was given."""
    from ...shared.config.locating import locate
    from ...shared.config.names import NAME, NAME_RULE
    from ..directory import base_directory

    if name is None:
        file = file if file is not None else "mesh.toml"
        name, base = locate(file)
        return base_directory(base), name, Path(file)
    if file is not None:
        raise click.UsageError("-f and --name both say which mesh; give one of them", click.get_current_context())
    if not NAME.fullmatch(name):
        raise click.UsageError(f"the name of a mesh {NAME_RULE}", click.get_current_context())
    return base_directory(None), name, None
