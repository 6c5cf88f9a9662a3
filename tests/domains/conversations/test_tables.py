"""The tables as the migrations made them: the models agree, the agents are seeded, the view reads one job per event."""

from typing import Any

import psycopg
import pytest
from sqlalchemy.dialects import postgresql

from app.database.deadline import BoundedConnection
from app.domains.conversations.agents import seed_agents, seed_mapping
from app.domains.conversations.models import Base
from tests.support.conversations import end, read, serving

COLUMNS = """
SELECT c.table_name, c.column_name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required
FROM information_schema.columns AS c
JOIN pg_attribute AS a ON a.attrelid = format('public.%I', c.table_name)::regclass AND a.attname = c.column_name
WHERE c.table_schema = 'public' AND c.table_name = ANY (%s)
"""


def test_the_models_are_what_the_migrations_made(tx: BoundedConnection) -> None:
    query = COLUMNS.replace("%I", "%%I")
    found = {
        (table, column): (kind, required)
        for table, column, kind, required in tx.execute(query.encode(), [list(Base.metadata.tables)])
    }
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    modelled = {
        (table.name, column.name): (column.type.compile(dialect).lower(), not column.nullable)
        for table in Base.metadata.tables.values()
        for column in table.columns
    }
    spelled = {"timestamp with time zone": "timestamp with time zone", "double": "double precision"}
    assert {
        key: (spelled.get(kind, kind).replace(", ", ","), required)
        for key, (kind, required) in modelled.items()
    } == {key: (kind, required) for key, (kind, required) in found.items()}


def test_the_agents_that_ship_are_in_the_tables(shared_db_url: str) -> None:
    agents = read(
        shared_db_url,
        "SELECT agent_id, agent_name, bot_type, topics, prompt_en, prompt_vi, enabled FROM agent_prompting",
    )
    assert {
        (
            row.agent_id,
            row.agent_name,
            row.bot_type,
            tuple(row.topics),
            row.prompt_en,
            row.prompt_vi,
            row.enabled,
        )
        for row in agents
    } == {
        (one.agent_id, one.agent_name, one.bot_type.value, one.topics, one.prompt_en, one.prompt_vi, True)
        for one in seed_agents()
    }
    mapping = read(
        shared_db_url, "SELECT friendship_level, agent_id, weight, enabled FROM friendship_agent_mapping"
    )
    assert {(row.friendship_level, row.agent_id, row.weight, row.enabled) for row in mapping} == {
        (one.friendship_level.value, one.agent_id, one.weight, True) for one in seed_mapping()
    }


@pytest.mark.parametrize(
    "change",
    [
        "status = 'DONE'",
        "status = 'PROCESSED'",
        "next_attempt_at = NULL",
        "end_time = start_time - interval '1 second'",
        "bot_type = 'CHAT'",
    ],
)
async def test_states_that_make_no_sense_cannot_be_stored(db_url: str, change: str) -> None:
    async with serving(db_url) as client:
        await end(client)
    with psycopg.connect(db_url) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(b"UPDATE conversation_events SET " + change.encode())


async def test_the_view_reads_one_job_by_its_id(db_url: str) -> None:
    """However large the queue: every table of the queue is asked by an index, for one job."""
    async with serving(db_url) as client:
        await end(client)
    with psycopg.connect(db_url) as connection:
        connection.execute("SET enable_seqscan = off")
        [(plan,)] = connection.execute(
            "EXPLAIN (FORMAT JSON) SELECT event_id, status, job_status FROM conversation_event_status"
            " WHERE conversation_id = 'conv_1'"
        ).fetchall()
    assert [scan for scan in scans(plan[0]["Plan"]) if scan["Node Type"] == "Seq Scan"] == []


def scans(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node.get("Plans", ()) for below in scans(child))]
