"""The page on schedules is tried: its Python declares what it says, its commands run, its paths exist."""

import re
import shlex
from typing import Any

import pytest

from app.config import Settings
from app.main import create_app
from tests.docs.test_docs import DOCS, blocks
from tests.support.command_line import run


def test_the_page_declares_a_schedule() -> None:
    page: dict[str, Any] = {}
    for text in blocks("schedules.md", "python"):
        exec(text, page)  # noqa: S102 - our own page
    [declared] = page["registry"].schedules
    assert (declared.name, declared.missed, declared.overlap) == ("nightly-report", "coalesce", True)


def test_the_pages_commands_run(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", db_url)
    commands = [line for text in blocks("schedules.md", "sh") for line in text.splitlines()]
    assert len(commands) == 7
    for command in commands:
        code, text = run(*shlex.split(command)[1:])
        assert code == 0, f"{command}: {text}"


def test_every_path_is_told() -> None:
    document = create_app(Settings(), url="postgresql://nowhere").openapi()
    paths = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        if path.startswith("/v1/schedules")
        for method in methods
    }
    told = re.findall(r"^\| `([A-Z]+ /v1/schedules[^`]*)`", (DOCS / "schedules.md").read_text(), re.MULTILINE)
    assert set(told) == paths
