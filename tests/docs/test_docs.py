"""What the documents say is tried: their SQL and Python run, their links lead somewhere, their settings exist."""

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from app.config import CHECKOUT, Settings, SweeperSettings
from app.queue.enqueue import enqueue
from app.queue.job import NewJob
from app.queue.kinds import Registry
from tests.support.jobs import outcome, status, tries
from tests.support.states import fill
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async
from workers.sweeper.reconcile import Reconciler
from workers.sweeper.sweeper import all_steps

DOCS = CHECKOUT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(r"\bTANDEM_([A-Z]+)__([A-Z_]+)\b")
SETTING_ROW = re.compile(r"^\| `TANDEM_([A-Z]+)__([A-Z_]+)` \| ([^|]+) \|", re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    found = FENCE.finditer((DOCS / page).read_text())
    return [one["text"] for one in found if one["language"] == language]


@pytest.fixture
def producer(server_url: str) -> Iterator[str]:
    """The name of a role for the page's producer; roles belong to the whole server."""
    name = f"shop_producer_{secrets.token_hex(4)}"
    yield name
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("DROP ROLE IF EXISTS {}").format(psycopg.sql.Identifier(name)))


def test_the_sql_page_runs(db_url: str, producer: str) -> None:
    with psycopg.connect(db_url, autocommit=True, row_factory=dict_row) as connection:
        answers: list[list[dict[str, Any]]] = []
        for text in blocks("sql.md", "sql"):
            cursor = connection.execute(text.replace("shop_producer", producer).encode())
            answers.append(cursor.fetchall() if cursor.description else [])
        for text in blocks("sql.md", "python"):  # the package is called `app.client` here
            exec(text.replace("from tandem ", "from app.client "), {"url": db_url})  # noqa: S102 - our own page
        kinds = connection.execute("SELECT kind, count(*) AS jobs FROM tandem.job GROUP BY kind").fetchall()
        assert {row["kind"]: row["jobs"] for row in kinds} == {
            "send-mail": 4,
            "send-sms": 1,
            "build-report": 1,
            "send-receipt": 3,
            "import": 4,
        }
        enqueued = next(rows for rows in answers if rows and "same_body" in rows[0])
        assert [(row["ord"], row["created"], row["same_body"]) for row in enqueued] == [
            (1, True, True),
            (2, True, True),
            (3, True, True),
        ]
        first = next(rows for rows in answers if rows and "waiting_for" in rows[0])
        assert (first[0]["status"], first[0]["waiting_for"]) == ("PENDING", "nothing")

        connection.execute(psycopg.sql.SQL("SET ROLE {}").format(psycopg.sql.Identifier(producer)))
        connection.execute("SELECT tandem.enqueue('k', '{}', unique_key => 'once')")
        assert connection.execute("SELECT count(*) AS n FROM tandem.job_status").fetchall() == [{"n": 14}]
        for forbidden in ("DELETE FROM tandem.ready", "SELECT count(*) FROM tandem.job"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())
        connection.execute("RESET ROLE")
        connection.execute(psycopg.sql.SQL("DROP OWNED BY {}").format(psycopg.sql.Identifier(producer)))


def test_the_statements_of_other_languages_are_right(db_url: str) -> None:
    page = (DOCS / "sql.md").read_text()
    statements = re.findall(r'"(SELECT tandem\.enqueue\([^"]+)"', page)
    assert len([one for one in statements if "$1" in one or "?" in one]) == 3
    with psycopg.connect(db_url, autocommit=True) as connection:
        for number, text in enumerate(one for one in statements if "$1" in one or "?" in one):
            types = "(varchar, varchar, varchar)" if "?" in text else ""  # as JDBC sends strings
            for position in range(1, 4):
                text = text.replace("?", f"${position}", 1) if "?" in text else text
            connection.execute(f"PREPARE s{number} {types} AS {text}".encode())
            values = "'k', '{}', 'mail'" if "$3" in text else "'k', '{}'"
            row = connection.execute(f"EXECUTE s{number} ({values})".encode()).fetchone()
            assert row is not None
            assert row[0] > 0


def test_the_table_of_parameters_is_the_functions(shared_db_url: str) -> None:
    listed = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (required|none|now|`[^`]+`|\d+) \|", (DOCS / "sql.md").read_text(), re.M
    )
    with psycopg.connect(shared_db_url) as connection:
        row = connection.execute(
            "SELECT proargnames, proargtypes::regtype[]::text[] FROM pg_proc WHERE oid = 'tandem.enqueue'::regproc"
        ).fetchone()
    assert row is not None
    types = {"timestamp with time zone": "timestamptz"}
    assert [(name, kind) for name, kind, _ in listed] == [
        (name, types.get(kind, kind)) for name, kind in zip(*row, strict=True)
    ]


async def test_the_handlers_page_runs(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE points (who text PRIMARY KEY, points integer NOT NULL)")
        connection.execute(
            "CREATE TABLE import_log (job_id bigint, transition text, attempt integer, why text)"
        )
    page: dict[str, Any] = {"url": db_url}
    for number, text in enumerate(blocks("handlers.md", "python")):
        exec(compile(text, f"handlers.md block {number + 1}", "exec"), page)  # noqa: S102 - our own page
    await page["test_greeting"](db_url)
    wanted: dict[str, tuple[str, dict[str, Any], str]] = {
        "receipt": ("send-receipt", {"order": 7}, "SUCCEEDED"),
        "no receipt": ("send-receipt", {"order": "seven"}, "DEAD"),
        "checksum": ("checksum", {"text": "abc"}, "SUCCEEDED"),
        "embed": ("embed", {"text": "abc"}, "SUCCEEDED"),
        "embed nothing": ("embed", {"text": ""}, "PENDING"),
        "charge": ("charge", {"card": "expired"}, "DEAD"),
        "not yet": ("poll-bank", {"answer": "not yet"}, "PENDING"),
        "busy": ("poll-bank", {"answer": "busy"}, "PENDING"),
        "withdrawn": ("poll-bank", {"answer": "withdrawn"}, "CANCELLED"),
        "unknown": ("poll-bank", {"answer": "unknown account"}, "DEAD"),
        "paid": ("poll-bank", {"answer": "yes"}, "SUCCEEDED"),
        "points": ("add-points", {"who": "ann", "text": "12345"}, "SUCCEEDED"),
        "words": ("count-words", {"who": "bob", "text": "one two"}, "SUCCEEDED"),
        "import": ("import-file", {}, "DEAD"),
    }
    with psycopg.connect(db_url) as connection:
        ids = {
            name: enqueue(connection, NewJob(kind, body)).job_id for name, (kind, body, _) in wanted.items()
        }
    async with supervised(db_url, page["registry"]):
        await eventually_async(lambda: not _unsettled(db_url, ids))
    assert {name: outcome(db_url, job) for name, job in ids.items()} == {
        name: one[2] for name, one in wanted.items()
    }
    counted = {name: status(db_url, ids[name]).attempt for name in ("not yet", "busy", "embed nothing")}
    assert counted == {"not yet": 0, "busy": 1, "embed nothing": 1}
    assert tries(db_url, ids["charge"])[0].error_class == "permanent"
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT who, points FROM points ORDER BY who").fetchall() == [
            ("ann", 5),
            ("bob", 2),
        ]
        log = connection.execute("SELECT job_id, transition, attempt, why FROM import_log").fetchall()
    assert log == [(ids["import"], "DEAD", 1, "HandlerError: no such file")]


def _unsettled(url: str, ids: dict[str, int]) -> list[str]:
    """Jobs that still run or wait for their first try."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT job_id FROM tandem.job_status WHERE status = 'RUNNING' OR waiting_for = 'nothing'"
        ).fetchall()
    waiting = {row[0] for row in rows}
    return [name for name, job in ids.items() if job in waiting]


def test_the_table_of_tables_is_the_databases(shared_db_url: str) -> None:
    page = (DOCS / "architecture.md").read_text()
    told = re.findall(
        r"^\| `(\w+)` \|", page.partition("## Tables")[2].partition("```mermaid")[0], re.MULTILINE
    )
    query = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'tandem'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition AND relname <> 'alembic_version' ORDER BY relname"
    )
    with psycopg.connect(shared_db_url) as connection:
        assert [row[0] for row in connection.execute(query.encode())] == sorted(told)


def test_the_table_of_steps_is_the_sweepers() -> None:
    page = (DOCS / "architecture.md").read_text()
    told = re.findall(r"^\| `([\w.-]+)` \| ([\d.]+) s \|", page.partition("## The sweep")[2], re.MULTILINE)
    settings = SweeperSettings()
    repair = Reconciler("...", _repair_nothing, settings.reconcile_every_seconds)
    steps = all_steps(Registry(), [repair], settings)
    assert told == [(step.name, f"{step.every:g}") for step in steps]


async def _repair_nothing(_: object) -> int:
    return 0


def test_the_operators_statements_run(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("INSERT INTO tandem.queue (name) VALUES ('mail')")
        job = enqueue(connection, NewJob("k", queue="mail")).job_id
        connection.execute("DELETE FROM tandem.ready")
        for text in blocks("operate.md", "sql"):
            connection.execute(text.replace("4711", str(job)).encode())
    assert outcome(db_url, job) == "PENDING", "a lost job is back"
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT job_id, requested_by FROM tandem.cancel_intent").fetchall() == [
            (job, "ann")
        ]
        assert connection.execute("SELECT paused_at FROM tandem.queue WHERE name = 'mail'").fetchall() == [
            (None,)
        ]


def test_the_operators_redrive_runs(db_url: str) -> None:
    states = asyncio.run(fill(db_url))
    [text] = blocks("operate.md", "python")
    answer = subprocess.run(
        [sys.executable, "-c", text],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": db_url},
        capture_output=True,
        text=True,
    )
    assert (answer.stdout, answer.returncode) == ("2 are ready again; {}\n", 0), answer.stderr
    assert [outcome(db_url, job) for job in states.jobs["dead"]] == ["DEAD", "PENDING", "PENDING"]


def test_the_operators_page_names_every_question() -> None:
    named = re.findall(r"^\| `(\w+)` \| [a-z].*\? \|", (DOCS / "operate.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(file.stem for file in (CHECKOUT / "sql" / "inspect").glob("*.sql"))


def test_the_map_names_every_page() -> None:
    linked = set(re.findall(r"\]\(([a-z-]+\.md)\)", (DOCS / "README.md").read_text()))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"README.md"}


def test_the_architecture_names_every_decision() -> None:
    listed = re.findall(r"^\d+\. \[.*\]\(adr/(.*)\)$", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    assert listed == sorted(page.name for page in (DOCS / "adr").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    heads = {
        re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in heads, anchor
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_settings_exist_and_have_the_default_that_is_told(page: Path) -> None:
    groups = Settings.model_construct().model_dump()
    text = page.read_text()
    for group, name in VARIABLE.findall(text):
        inside = groups[group.lower()]
        outer, _, inner = name.lower().partition("__")
        assert (inner in inside[outer]) if inner else (outer in inside), f"TANDEM_{group}__{name}"
    for group, name, told in SETTING_ROW.findall(text):
        assert told.strip().strip("`") == _shown(groups[group.lower()][name.lower()]), f"{group} {name}"


def _shown(value: object) -> str:
    """A default as the pages show it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict) else str(value)
