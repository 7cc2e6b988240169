"""What the commands have in common: how a mesh is named on the command line, and how it is reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ...shared.memory.blacklist import SharedBlacklist
    from ..client import Client

USAGE = 2

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


def mesh_options(command: F) -> F:
    """Add the options that say which mesh is meant: ``file`` and ``name``, both None by default."""
    file = click.option("-f", "--file", metavar="FILE", help="The mesh of this file (default: ./mesh.toml).")
    name = click.option("--name", metavar="NAME", help="The mesh of this name.")
    return file(name(command))


class Following(click.Command):
    """A command whose ``-f`` follows what comes, as that of ``tail`` does; before a file's name it says which mesh.

    No slot has a dot or a slash in its name, and no usual name of a file is without both.
    """

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Take a ``-f FILE`` for a ``--file FILE``."""
        following = [*arguments[1:], ""]
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
    file = click.option("--file", metavar="FILE", help="The mesh of this file (default: ./mesh.toml); also -f FILE.")
    name = click.option("--name", metavar="NAME", help="The mesh of this name.")
    return follow(file(name(command)))


def client_of(file: str | None, name: str | None) -> Client:
    """Return a connection to the mesh that was named by its file or by its name."""
    from ..client import Client

    base, name, _ = located(file, name)
    return Client(base, name)


def blacklist_of(file: str | None, name: str | None) -> SharedBlacklist:
    """Return the blacklist of the mesh that was named by its file or by its name."""
    from ..attach import attach_blacklist

    base, name, _ = located(file, name)
    return attach_blacklist(base, name, "operator")


def located(file: str | None, name: str | None) -> tuple[Path, str, Path | None]:
    """Return where the mesh that was meant has its runtime directory, its name, and its file if that was given."""
    from ...shared.config import locate
    from ...shared.config.values import NAME, NAME_RULE
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
