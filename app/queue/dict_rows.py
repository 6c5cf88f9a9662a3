"""Statements whose rows come as dicts, unprepared: each call is planned for the filters it was given."""

from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from app.queue.store import Params
from app.queue.stored_json import read_stored

Row = dict[str, Any]


class DictRows:
    """The base of the stores for operators."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection

    async def _rows(self, query: bytes, params: Params) -> list[Row]:
        cursor = self.connection.cursor(row_factory=dict_row)
        set_json_loads(read_stored, cursor)
        await cursor.execute(query, params, prepare=False)
        return await cursor.fetchall()

    async def _row(self, query: bytes, params: Params) -> Row | None:
        rows = await self._rows(query, params)
        return rows[0] if rows else None
