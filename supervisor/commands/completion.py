"""Having the shell complete what one types: ``completion``."""

from __future__ import annotations

import click

_VARIABLE = "_SUPERVISE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes in SHELL.

    It completes commands, options and values, and the names of slots and workers that run. To have it from the next
    shell on:

    \b
    bash:  supervise completion bash > ~/.local/share/bash-completion/completions/supervise
    zsh:   echo 'eval "$(supervise completion zsh)"' >> ~/.zshrc
    fish:  supervise completion fish > ~/.config/fish/completions/supervise.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from ..cli import supervise

    kind = get_completion_class(shell)
    assert kind is not None
    # The source of the base class: bash's own first runs a bash to look at its version.
    click.echo(ShellComplete.source(kind(supervise, {}, "supervise", _VARIABLE)))
