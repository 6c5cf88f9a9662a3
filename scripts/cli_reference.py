"""Writes the reference part of docs/cli.md from the command line's own help, below its mark.

Usage: .venv/bin/python -m scripts.cli_reference   (a test compares the file with the commands)
"""

import re
import sys
from collections.abc import Iterator
from typing import Any, get_args

import typer

from app.cli import main as command_line
from app.config import CHECKOUT

PAGE = CHECKOUT / "docs" / "cli.md"
MARK = (
    "<!-- From here on made by `python -m scripts.cli_reference`; a test compares it with the commands. -->"
)
EXAMPLE = re.compile(r"^(Example[^:]*): ?(?P<text>.+)$", re.DOTALL)


def reference() -> str:
    """Every command with its options, in the order of the help."""
    root = typer.main.get_command(command_line.app)
    return "\n\n".join(section(path, command) for path, command in commands(root, ("tandem",))) + "\n"


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command below `command` with its words; groups come as themselves, before what is in them."""
    for name, below in getattr(command, "commands", {}).items():
        yield (*path, name), below
        yield from commands(below, (*path, name))


def section(path: tuple[str, ...], command: Any) -> str:
    """One command: a heading, what it does, an example, its arguments and options."""
    level = "##" if len(path) == 2 else "###"
    parts = [f"{level} {' '.join(path)}"]
    for paragraph in re.split(r"\n\s*\n", (command.help or "").strip()):
        text = " ".join(line.strip() for line in paragraph.splitlines())
        example = EXAMPLE.match(text)
        parts.append(f"```sh\n{example['text']}\n```" if example else text)
    rows = [row(parameter) for parameter in command.params if not parameter.hidden]
    if rows:
        parts.append("\n".join(["| | | |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def row(parameter: Any) -> str:
    """An argument or option: its name and value, its default, what it does."""
    value = shown_value(parameter)
    if parameter.opts[0].startswith("-"):
        names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
        names += f" {value}" if value else ""
    else:
        names = f"{value}..." if parameter.nargs == -1 else value
    default = parameter.default
    told = "required" if parameter.required else "" if default in (None, False) else f"`{default}`".lower()
    return f"| {names} | {told} | {parameter.help} |"


def shown_value(parameter: Any) -> str:
    """What stands for the value: its own name, its choices, or its type."""
    if getattr(parameter, "is_flag", False):
        return ""
    annotation = parameter.type_descriptor.annotation
    choices = get_args(annotation)
    if parameter.metavar:
        return f"`{parameter.metavar}`"
    if choices and all(isinstance(choice, str) for choice in choices):
        return " \\| ".join(f"`{choice}`" for choice in choices)
    return {int: "`N`", float: "`SECONDS`"}.get(annotation, "`TEXT`")


def page(before: str) -> str:
    """The page with a fresh reference below what people wrote. Raises ValueError when the mark is not there."""
    written, found, _ = before.partition(MARK)
    if not found:
        raise ValueError(f"{PAGE.name} lacks the line {MARK}")
    return f"{written}{MARK}\n\n{reference()}"


def main() -> None:
    """Refresh the page."""
    PAGE.write_text(page(PAGE.read_text()))
    sys.stdout.write(f"wrote {PAGE.relative_to(CHECKOUT)}\n")


if __name__ == "__main__":
    main()
