"""Secrets planted wherever a secret may stand come out nowhere: not in logs, answers, metrics, rows or reports."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from app.cli import main as command_line
from app.config import CHECKOUT, ApiSettings, LoggingSettings, Settings
from app.observability.logging import set_up_logging
from tests.support.command_line import run
from tests.support.conversations import END, body, serving
from tests.support.identities import SECRET, bearer, guarded_settings, make_key, token

PASSWORD = "canary-Pa55-of-the-database"
CURSOR_KEY = "canary-key-of-the-cursors"
PATHS = ("/v1/jobs", "/v1/jobs/1", "/metrics", "/openapi.json", "/nothing", "/v1/jobs?cursor=" + "A" * 32)


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Everything that is logged meanwhile, in the form that machines read, at the most talkative level."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = StringIO()
    set_up_logging(LoggingSettings(level="DEBUG", format="json"), stream=stream)
    yield stream
    root.handlers[:], _ = before
    root.setLevel(before[1])


@pytest.fixture
def secret_url(db_url: str) -> str:
    """The database's address with a password in it."""
    return db_url.replace("//tandem@", f"//tandem:{PASSWORD}@")


def settings_with_secrets(url: str) -> Settings:
    """Settings that hold every secret there is."""
    guarded = guarded_settings()
    api = guarded.api.model_copy(update={"cursor_key": SecretStr(CURSOR_KEY)})
    return Settings(database_url=url, api=ApiSettings.model_validate(api))


def rows(url: str) -> str:
    """Every row of every table, as text."""
    names = (
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('tandem', 'public') AND c.relkind IN ('r', 'p')"
    )
    with psycopg.connect(url) as connection:
        tables = [row[0] for row in connection.execute(names.encode())]
        found = [
            str(connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.SQL(name))).fetchall())
            for name in tables
        ]
    return "\n".join(found)


async def test_no_secret_comes_out_of_the_api(secret_url: str, db_url: str, log: StringIO) -> None:
    key = await make_key(db_url, "admin")
    good, expired = token(roles=["admin"]), token(exp=1)
    secrets = [
        PASSWORD,
        CURSOR_KEY,
        SECRET,
        key.clear.rpartition("_")[2],
        good,
        expired,
        good.rpartition(".")[2],
    ]
    said = []
    async with serving(secret_url, settings_with_secrets(secret_url)) as client:
        for credential in (key.clear, good, expired, key.clear + "x", good + "x", f"{key.clear} {good}"):
            headers = bearer(credential)
            said.append(await client.post(END, json=body(), headers=headers))
            said += [await client.get(path, headers=headers) for path in PATHS]
        with psycopg.connect(db_url, autocommit=True) as connection:
            connection.execute("ALTER TABLE tandem.job RENAME TO gone")  # now errors carry tracebacks
        said.append(await client.get("/v1/jobs/1", headers=bearer(good)))
    answers = "\n".join(f"{one.status_code} {one.headers} {one.text}" for one in said)
    assert {one.status_code for one in said} >= {200, 202, 401, 404, 500}
    assert "Traceback" in log.getvalue()
    for place in (answers, log.getvalue(), rows(db_url), repr(settings_with_secrets(secret_url))):
        assert len(place) > 500
        assert [secret for secret in secrets if secret in place] == []
    assert key.id in rows(db_url)  # the search does find what is there


def test_the_search_finds_what_a_careless_line_would_say(log: StringIO) -> None:
    logging.getLogger("app.careless").info("the key is %s", CURSOR_KEY)
    assert CURSOR_KEY in log.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        f"cannot reach postgresql://me:{PASSWORD}@db/app",
        f"cannot reach postgresql+psycopg://me:{PASSWORD}@db/app",
        f"connection string host=db user=me password={PASSWORD} dbname=app",
        f"connection string password='{PASSWORD}' host=db",
        f"address postgresql://db/app?user=me&password={PASSWORD}&sslmode=require",
        f"sslpassword={PASSWORD}",
        f"headers: Authorization: Bearer {PASSWORD}",
        f"headers: {{'authorization': 'Bearer {PASSWORD}'}}",
    ],
)
def test_what_looks_like_a_secret_is_taken_out_of_every_line(log: StringIO, line: str) -> None:
    logging.getLogger("app.somewhere").warning("%s", line)
    try:
        raise ConnectionError(line)
    except ConnectionError:
        logging.getLogger("app.somewhere").exception("failed")
    assert "failed" in log.getvalue()
    assert PASSWORD not in log.getvalue()


def test_a_key_in_a_line_is_taken_out_and_its_id_stays(log: StringIO) -> None:
    secret = "A" * 20 + "b" * 23
    logging.getLogger("app.somewhere").warning("the caller sent tandem_abcdefghijk1_%s", secret)
    assert "tandem_abcdefghijk1_***" in log.getvalue()
    assert secret not in log.getvalue()
    forged = token(roles=["admin"])
    logging.getLogger("app.somewhere").warning("the caller sent %s", forged)
    assert forged.rpartition(".")[2] not in log.getvalue()


@pytest.mark.parametrize(
    "command",
    [
        ("doctor", "--json"),
        ("jobs", "list"),
        ("queues", "list"),
        ("keys", "list"),
        ("db", "check"),
        ("db", "current"),
    ],
)
def test_commands_never_repeat_the_password(
    secret_url: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", secret_url)
    monkeypatch.setenv("TANDEM_API__JWT__SECRET", SECRET)
    monkeypatch.setenv("TANDEM_API__JWT__ALGORITHMS", '["HS256"]')
    monkeypatch.setenv("TANDEM_API__JWT__ISSUER", "i")
    monkeypatch.setenv("TANDEM_API__JWT__AUDIENCE", "a")
    _, said = run(*command)
    assert said
    assert PASSWORD not in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "variables",
    [
        {"DATABASE_URL": f"postgresql://me:{PASSWORD}@127.0.0.1:1/app"},
        {"DATABASE_URL": f"postgresql://me:{PASSWORD}@db.example/app"},
        {"DATABASE_URL": f"postgresql://me:{PASSWORD}@[oops/app"},
        {"DATABASE_URL": f"nonsense {PASSWORD}"},
        {"TANDEM_API__JWT__SECRET": PASSWORD},
        {"TANDEM_API__CURSOR_KEY": "canary"},
        {"TANDEM_API__JWT": json.dumps({"secret": PASSWORD, "odd": PASSWORD})},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_command_that_fails_does_not_say_the_secret(tmp_path: Path, variables: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "app.cli", "db", "check"],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT), "HOME": str(tmp_path), **variables},
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert len(said) > 20
    assert "canary" not in said


def test_the_address_that_a_command_is_asked_for_is_the_exception(
    secret_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tandem db url` is how psql learns the password: that it prints it is its purpose, and nothing else does."""
    monkeypatch.setenv("DATABASE_URL", secret_url)
    assert PASSWORD in run("db", "url")[1]
    assert urlsplit(secret_url).password == PASSWORD
    assert command_line.app is not None
