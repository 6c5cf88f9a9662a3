"""The client as another program has it: from its wheel, in an environment with nothing else of ours."""

import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.client.wheel import Environment, build_wheel

FOREIGN = Path(__file__).parent / "foreign"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """It has psycopg and the client."""
    place = tmp_path_factory.mktemp("foreign")
    made = Environment(place / "venv")
    made.install_from_registry("psycopg[binary]")
    made.install_wheel(build_wheel(place))
    return made


def test_psycopg_alone_is_enough(environment: Environment, db_url: str) -> None:
    told = environment.run(FOREIGN / "with_psycopg.py", db_url).splitlines()
    assert told[:4] == ["present: []", "rolled back: 0", "created: True False True", "committed: 111"]
    assert "kind 'Mail' is not a name" in told[4]
    assert told[5].startswith("InvalidInput: the payload is not JSON")
    assert "the limit is 262144: store the data in a table" in told[6]
    assert told[7].startswith("UniqueConflict: unique key 'order-1' in queue 'default' belongs to job")
    assert told[8].endswith("[unknown-connection]")
    assert told[9] == "imported: []"


def test_the_other_drivers_when_the_program_has_them(environment: Environment, db_url: str) -> None:
    environment.install_from_registry("asyncpg", "sqlalchemy", "greenlet", "psycopg[binary]")
    parts = conninfo_to_dict(db_url)
    address = [str(parts.get(name) or "") for name in ("host", "port", "user", "dbname")]
    assert environment.run(FOREIGN / "with_drivers.py", *address).splitlines() == [
        "asyncpg rolled back: 0",
        "asyncpg committed: 6",
        "asyncpg committed: 7",
        "psycopg committed: 8",
    ]


WRONG = """
import psycopg, tandem
async def f(connection: psycopg.AsyncConnection) -> None:
    tandem.enqueue(connection, "a")
def g(connection: psycopg.Connection) -> None:
    tandem.enqueue(connection, "a", priority="high")
    tandem.enqueue(connection, tandem.Job("a"), queue="b")
    tandem.enqueue(connection, "a").created = True
"""


def type_check(environment: Environment, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(environment.python)]
    cache = environment.python.parent.parent / "mypy"
    options = ("--config-file=", f"--cache-dir={cache}", "--disable-error-code=import-untyped", *options)
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)


def test_a_strict_type_checker_understands_the_client(environment: Environment) -> None:
    environment.install_from_registry("asyncpg", "sqlalchemy", "greenlet")
    checked = type_check(environment, *(str(script) for script in FOREIGN.glob("*.py")))
    assert checked.returncode == 0, checked.stdout


def test_a_type_checker_finds_wrong_use(environment: Environment) -> None:
    checked = type_check(environment, "--disable-error-code=type-arg", "-c", WRONG)
    wrong = sorted({int(line.split(":")[1]) for line in checked.stdout.splitlines() if ": error:" in line})
    assert wrong == [4, 6, 7, 8], checked.stdout
