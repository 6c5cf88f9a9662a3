"""The shortest way to run a statement again and again on one direct connection: prepared by us, values as text.

A cursor builds the query, looks for the types of its values and decides whether to prepare at every call: half of what
a small statement costs the client. Transactions, pools and poolers have no place here; `fits` says where it works.
"""

import contextlib
import re
from collections.abc import Generator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import errors, generators, pq
from psycopg.adapt import Transformer
from psycopg.rows import TupleRow

from app.database.deadline import BoundedAsyncConnection

Value = str | int | float | UUID | timedelta | None
_PLACE = re.compile(rb"%\((\w+)\)s")
_GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class Prepared(NamedTuple):
    """A statement with numbered places, the names of the values in that order, and its name on the server."""

    text: bytes
    names: tuple[str, ...]
    name: bytes


@cache
def prepared(text: bytes) -> Prepared:
    """A statement from its text with %(name)s places; each place is cast in it, since values go without types."""
    names: list[str] = []

    def number(found: re.Match[bytes]) -> bytes:
        name = found[1].decode()
        if name not in names:
            names.append(name)
        return b"$%d" % (names.index(name) + 1)

    numbered = _PLACE.sub(number, text)
    return Prepared(numbered, tuple(names), b"tandem_" + blake2b(text, digest_size=8).hexdigest().encode())


def fits(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the connection is a direct one in autocommit, outside a transaction, where statements may be prepared.

    psycopg throws all statements of a session away after a ROLLBACK; inside a transaction that could not be mended.
    """
    return (
        type(connection) is BoundedAsyncConnection
        and connection.autocommit
        and connection.prepare_threshold is not None
        and connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
    )


async def fetch(
    connection: psycopg.AsyncConnection[Any], statement: Prepared, values: Mapping[str, Value]
) -> list[TupleRow]:
    """Run it and answer its rows; raises what psycopg raises. Only for connections that `fits` likes."""
    texts = [_text(values[name]) for name in statement.names]
    async with connection.lock:
        try:
            result = await connection.wait(_run(connection, statement, texts))
        except errors.InvalidSqlStatementName:  # somebody has thrown the session's statements away
            _known(connection).clear()
            result = await connection.wait(_run(connection, statement, texts))
    if result.ntuples == 0:
        return []
    rows = Transformer(connection)
    rows.set_pgresult(result)
    return rows.load_rows(0, result.ntuples, tuple)


def _run(
    connection: psycopg.AsyncConnection[Any], statement: Prepared, values: Sequence[bytes | None]
) -> Generator[Any, Any, pq.abc.PGresult]:
    server, known = connection.pgconn, _known(connection)
    if statement.name not in known:
        server.send_prepare(statement.name, statement.text)
        # A cancelled call may have left it there. The name says which text it is.
        with contextlib.suppress(errors.DuplicatePreparedStatement):
            yield from _answer(connection)
        known.add(statement.name)
    server.send_query_prepared(statement.name, values, result_format=pq.Format.BINARY)
    return (yield from _answer(connection))


def _answer(connection: psycopg.AsyncConnection[Any]) -> Generator[Any, Any, pq.abc.PGresult]:
    results = yield from generators.execute(connection.pgconn)
    result: pq.abc.PGresult = results[-1]
    if result.status not in _GOOD:
        raise errors.error_from_result(result, encoding=connection.info.encoding)
    return result


def _known(connection: psycopg.AsyncConnection[Any]) -> set[bytes]:
    assert isinstance(connection, BoundedAsyncConnection)  # noqa: S101 - see `fits`
    return connection.statements


def _text(value: Value) -> bytes | None:
    if value is None or isinstance(value, str):
        return None if value is None else value.encode()
    if isinstance(value, timedelta):
        return b"%.6f s" % value.total_seconds()
    return str(value).encode()
