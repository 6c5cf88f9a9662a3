"""The twenty questions of docs/operator-questions.md: each command is one that psql answers."""

import asyncio
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from app.config import CHECKOUT
from app.database.embedded import embedded_programs
from tests.docs.test_docs import blocks
from tests.support.states import fill

PAGE = "operator-questions.md"


@pytest.fixture
def psql(pytestconfig: pytest.Config) -> Path:
    """The psql of the run's programs."""
    given = pytestconfig.getoption("--pg-bin")
    return Path(given or embedded_programs()) / "psql"


def test_every_command_is_answered(db_url: str, psql: Path) -> None:
    asyncio.run(fill(db_url))
    commands = [
        shlex.split(line.removeprefix("$ tandem db psql "))
        for text in blocks(PAGE, "")
        for line in text.splitlines()
        if line.startswith("$")
    ]
    assert len(commands) >= 20
    for options in commands:
        answer = subprocess.run(
            [psql, "-X", "-v", "ON_ERROR_STOP=1", db_url, *options],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (answer.returncode, answer.stderr) == (0, ""), options


def test_it_shows_the_columns_that_the_queries_answer(db_url: str, psql: Path) -> None:
    compared = 0
    for text in blocks(PAGE, ""):
        if found := re.match(r"\$ tandem db psql (-f \S+)\n(.+)\n", text):
            answer = subprocess.run(
                [psql, "-X", db_url, *found[1].split()],
                cwd=CHECKOUT,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert answer.stdout.split("\n", 1)[0].replace(" ", "") == found[2].replace(" ", "")
            compared += 1
    assert compared >= 12


def test_it_asks_twenty() -> None:
    numbers = re.findall(r"^## (\d+)\. .+\?$", (CHECKOUT / "docs" / PAGE).read_text(), re.MULTILINE)
    assert numbers == [str(number) for number in range(1, 21)]
