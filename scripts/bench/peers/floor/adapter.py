"""The floor under W1 and W2: bare INSERTs into a plain table by psycopg, one row or many per transaction."""

import asyncio
import json
from typing import Any

import psycopg

from scripts.bench.peers import recorder
from scripts.bench.peers.recorder import Payload, Recorder

INSERT = "INSERT INTO floor_job (payload) VALUES (%s::jsonb)"
INSERT_MANY = "INSERT INTO floor_job (payload) SELECT unnest(%s::text[]::jsonb[])"
TABLE = "CREATE TABLE floor_job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL)"


class Blocking:
    """One connection."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)

    def single(self, payload: Payload) -> None:
        """One row, one transaction."""
        self.connection.execute(INSERT, [json.dumps(payload)])


class Client:
    """One connection of a coroutine."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def single(self, payload: Payload) -> None:
        """One row, one transaction."""
        await self.connection.execute(INSERT, [json.dumps(payload)])

    async def many(self, payloads: list[Payload]) -> None:
        """One statement, one transaction."""
        await self.connection.execute(INSERT_MANY, [[json.dumps(one) for one in payloads]])


async def setup(url: str) -> None:
    """The table."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(TABLE)


async def produce(url: str, spec: dict[str, Any]) -> None:
    """Blocking connections for single rows, a coroutine for many."""
    if spec["mode"] == "single":
        clients = [Blocking(url) for _ in range(spec.get("conns", 1))]
        await asyncio.to_thread(recorder.produce_in_threads, spec, [one.single for one in clients])
        return

    async def open_client() -> Client:
        return Client(await psycopg.AsyncConnection.connect(url, autocommit=True))

    await recorder.produce(spec, open_client)


async def work(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """There is nothing to work on."""
    raise SystemExit("the floor has no worker")


if __name__ == "__main__":
    recorder.main(setup=setup, produce=produce, work=work)
