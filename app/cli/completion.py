"""`tandem completion`: the script that lets a shell complete commands and options."""

from typing import Annotated, Literal

import typer


def register(parent: typer.Typer) -> None:
    """Add this command to the command line."""
    parent.command()(completion)


def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")
    ],
) -> None:
    """Print the completion script of a shell: source it in the shell's start-up file.

    Example: source <(tandem completion bash)
    """
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="tandem", complete_var="_TANDEM_COMPLETE", shell=shell))
