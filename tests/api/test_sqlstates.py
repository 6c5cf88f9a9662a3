"""The table from PostgreSQL's errors to ours: each class, and what is known of a statement that was sent."""

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.api.problems import status_of
from app.api.sqlstates import driver_error, translate, translate_sent
from app.database.deadline import DeadlineExceeded
from app.errors import AppError, Conflict, InvalidInput, NotFound, OutcomeUnknown, Unavailable

KNOWN: list[tuple[str, type[AppError], int]] = [
    ("08006", Unavailable, 503),
    ("22P05", InvalidInput, 422),
    ("22001", InvalidInput, 422),
    ("23505", Conflict, 409),
    ("23514", InvalidInput, 422),
    ("25006", Unavailable, 503),
    ("25P03", Unavailable, 503),
    ("40001", Unavailable, 503),
    ("40P01", Unavailable, 503),
    ("53100", Unavailable, 503),
    ("53300", Unavailable, 503),
    ("54000", InvalidInput, 422),
    ("55P03", Unavailable, 503),
    ("57014", Unavailable, 503),
    ("57P01", Unavailable, 503),
    ("57P03", Unavailable, 503),
    ("58030", Unavailable, 503),
]
OURS = ["42601", "42P01", "42501", "23502", "23503", "0A000", "XX000", "P0001", "25P02"]


def server_error(state: str) -> psycopg.Error:
    return psycopg.errors.lookup(state)("secret detail of the server")


@pytest.mark.parametrize(("state", "kind", "status"), KNOWN)
def test_what_the_server_says_has_one_meaning(state: str, kind: type[AppError], status: int) -> None:
    for error in (server_error(state), DBAPIError("SELECT", {}, server_error(state))):
        for ours in (translate(error), translate_sent(error)):
            assert ours is not None
            assert (type(ours), status_of(ours)) == (kind, status)
            assert "secret" not in ours.message


@pytest.mark.parametrize("state", OURS)
def test_what_only_a_mistake_of_ours_causes_is_not_explained_away(state: str) -> None:
    assert translate(server_error(state)) is None
    assert translate_sent(server_error(state)) is None


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("gone"), DeadlineExceeded("late"), psycopg.InterfaceError("closed")]
)
def test_a_connection_that_breaks_means_nothing_done_before_and_nothing_known_after(error: Exception) -> None:
    assert isinstance(translate(error), Unavailable)
    assert isinstance(translate_sent(error), OutcomeUnknown)
    assert isinstance(translate_sent(DBAPIError("SELECT", {}, error)), OutcomeUnknown)


def test_values_that_psycopg_cannot_send_were_never_sent() -> None:
    error = psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    assert isinstance(translate_sent(error), InvalidInput)
    assert isinstance(translate(error), InvalidInput)


def test_an_exhausted_pool_is_busy() -> None:
    ours = translate(PoolTimeout("QueuePool limit reached"))
    assert ours is not None
    assert (ours.code, status_of(ours)) == ("database-busy", 503)


def test_what_is_ours_or_unknown_passes() -> None:
    mine = NotFound("x", "y")
    assert translate(mine) is mine
    assert translate(ValueError("a bug")) is None
    assert driver_error(ValueError("a bug")) is None
