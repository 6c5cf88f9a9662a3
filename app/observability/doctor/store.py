"""The statements of sql/queries/doctor, and the operators' questions of sql/inspect. Decides nothing."""

from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from app.config import CHECKOUT
from app.queue.store import statement

INSPECT = CHECKOUT / "sql" / "inspect"
Row = dict[str, Any]


class DoctorStore:
    """What a check-up asks on one connection."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection

    async def _answers(self, query: bytes) -> list[list[Row]]:
        cursor = self.connection.cursor(row_factory=dict_row)
        await cursor.execute(query, prepare=False)
        answers = [await cursor.fetchall()]
        while cursor.nextset():
            answers.append(await cursor.fetchall())
        return answers

    async def read_server(self) -> Row:
        """Release, role, and whether it takes writes."""
        return (await self._answers(statement("doctor", "read_server")))[0][0]

    async def read_settings(self) -> dict[str, str]:
        """Server settings by name."""
        rows = (await self._answers(statement("doctor", "read_settings")))[0]
        return {row["name"]: row["setting"] for row in rows}

    async def read_schema(self) -> str | None:
        """The schema's version; None for none."""
        exists = (await self._answers(statement("doctor", "find_schema")))[0][0]["exists"]
        rows = (await self._answers(statement("doctor", "read_schema")))[0] if exists else []
        return str(rows[0]["version"]) if rows else None

    async def count_connections(self) -> Row:
        """Connections in use, of how many."""
        return (await self._answers(statement("doctor", "count_connections")))[0][0]

    async def read_sweeper(self) -> Row | None:
        """Who leads the sweep."""
        rows = (await self._answers(statement("doctor", "read_sweeper")))[0]
        return rows[0] if rows else None

    async def count_leases(self) -> Row:
        """Leases held, and those that ran out."""
        return (await self._answers(statement("doctor", "count_leases")))[0][0]

    async def find_loose_kinds(self) -> list[Row]:
        """Kinds with a limit that also run in plain queues."""
        return (await self._answers(statement("doctor", "find_loose_kinds")))[0]

    async def count_secrets(self) -> Row:
        """Secrets of webhooks, and how many are plain text."""
        return (await self._answers(statement("doctor", "count_secrets")))[0][0]

    async def inspect(self, name: str) -> list[list[Row]]:
        """The answers of sql/inspect/<name>.sql, one list of rows per statement in it."""
        return await self._answers((INSPECT / f"{name}.sql").read_bytes())
