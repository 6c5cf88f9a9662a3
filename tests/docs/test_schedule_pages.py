"""The pages on schedules and dependencies are tried: their Python, SQL and commands run, the paths exist."""

import re
import shlex
from typing import Any

import psycopg
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


def test_the_page_on_dependencies_runs(db_url: str) -> None:
    for text in blocks("dependencies.md", "python"):
        exec(text.replace("from tandem ", "from app.client "), {"url": db_url})  # noqa: S102 - our own page
    with psycopg.connect(db_url, autocommit=True) as connection:
        for text in blocks("dependencies.md", "sql"):
            connection.execute(text.encode())
        query = "SELECT kind, waiting_for, count(*) FROM tandem.job_status GROUP BY 1, 2 ORDER BY 1"
        assert connection.execute(query).fetchall() == [
            ("add-up", "job", 2),
            ("count-part", "job", 3),
            ("remove-file", "job", 1),
            ("split-file", "nothing", 1),
        ]
