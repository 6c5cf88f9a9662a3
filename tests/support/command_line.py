"""The command line as a test calls it: in this process, with its exit code and what it printed."""

import json
from typing import Any

from typer.testing import CliRunner

from app.cli import main
from app.errors import AppError


def run(*arguments: str, say: str | None = None) -> tuple[int, str]:
    """Exit code and standard output; `say` is typed in. An explained error is exit code 1 with its message."""
    result = CliRunner().invoke(main.app, [*arguments], input=say)
    if isinstance(result.exception, AppError):
        return 1, result.exception.message
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def facts(*arguments: str, code: int = 0) -> dict[str, Any]:
    """What a command answers to a program, with the exit code that it must have."""
    found, output = run(*arguments, "--json")
    assert found == code, output
    answer = json.loads(output)
    assert isinstance(answer, dict)
    return answer
