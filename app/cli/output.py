"""How commands answer: one JSON object per call for programs, short lines for people."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object, for programs.")]


def answer(facts: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print the facts as JSON, or the text."""
    typer.echo(json.dumps(facts, default=str) if as_json else text)
