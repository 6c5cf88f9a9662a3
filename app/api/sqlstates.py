"""What an error of PostgreSQL means to an HTTP client: one table from SQLSTATE to an error of ours.

Messages of the server never reach a client: they may name tables, addresses or values.
"""

import sys
from types import ModuleType
from typing import Final

import psycopg

from app.errors import AppError, Conflict, InvalidInput, OutcomeUnknown, Unavailable

AWAY: Final = ("database-unavailable", "the database cannot be reached at the moment; nothing was done")
BUSY: Final = ("database-busy", "the database is busy at the moment; nothing was done")
FULL: Final = ("database-full", "the database cannot take more data at the moment; nothing was done")
READ_ONLY: Final = ("database-read-only", "the database takes no writes at the moment; nothing was done")
REFUSED: Final = ("invalid-value", "a value cannot be stored")
TOO_LARGE: Final = ("too-large", "a value is larger than the database stores")
CONFLICT: Final = ("conflict", "the request contradicts what is stored")
UNKNOWN: Final = (
    "outcome-unknown",
    "the database's answer was lost, so the request may or may not be done: repeat it unchanged to learn which",
)

# The longest matching prefix counts. What is not listed is our own mistake, and answers 500.
SQLSTATES: Final[dict[str, tuple[type[AppError], tuple[str, str]]]] = {
    "08": (Unavailable, AWAY),
    "22": (InvalidInput, REFUSED),
    "23505": (Conflict, CONFLICT),
    "23514": (InvalidInput, REFUSED),
    "25006": (Unavailable, READ_ONLY),
    "25P03": (Unavailable, BUSY),
    "40": (Unavailable, BUSY),
    "53": (Unavailable, BUSY),
    "53100": (Unavailable, FULL),
    "54": (InvalidInput, TOO_LARGE),
    "55P03": (Unavailable, BUSY),
    "57": (Unavailable, AWAY),
    "57014": (Unavailable, BUSY),
    "58": (Unavailable, AWAY),
}


def translate(error: BaseException) -> AppError | None:
    """Our error for one of psycopg or SQLAlchemy that was raised before anything could be committed.

    None for what is neither, and for a SQLSTATE that only a mistake of ours can cause.
    """
    if isinstance(error, AppError):
        # What `connect` says names the server's address.
        return Unavailable(*AWAY) if error.code == AWAY[0] else error
    alchemy = alchemy_errors()
    if alchemy is not None and isinstance(error, alchemy.TimeoutError):
        return Unavailable(*BUSY)
    driver = driver_error(error)
    if driver is None:
        return Unavailable(*AWAY) if _is_disconnect(error) else None
    if driver.sqlstate is None:
        lost = isinstance(driver, psycopg.OperationalError | psycopg.InterfaceError)
        return Unavailable(*AWAY) if lost else _unstorable(driver)
    return _by_state(driver.sqlstate)


def translate_sent(error: BaseException) -> AppError | None:
    """The same once a statement that commits was sent: without the server's own verdict nobody knows its outcome."""
    driver = driver_error(error)
    if driver is not None and driver.sqlstate is None and not isinstance(driver, psycopg.DataError):
        return OutcomeUnknown(*UNKNOWN)
    return translate(error)


def alchemy_errors() -> ModuleType | None:
    """SQLAlchemy's module of errors, if somebody has loaded it: in a process without it none of them is raised."""
    return sys.modules.get("sqlalchemy.exc")


def driver_error(error: BaseException) -> psycopg.Error | None:
    """The error of psycopg, also when SQLAlchemy wrapped it."""
    alchemy = alchemy_errors()
    if alchemy is not None and isinstance(error, alchemy.DBAPIError):
        error = error.orig
    return error if isinstance(error, psycopg.Error) else None


def _by_state(state: str) -> AppError | None:
    for prefix in (state, state[:2]):
        if prefix in SQLSTATES:
            kind, (code, message) = SQLSTATES[prefix]
            return kind(code, message, detail={"sqlstate": state})
    return None


def _unstorable(error: psycopg.Error) -> AppError | None:
    return InvalidInput(*REFUSED) if isinstance(error, psycopg.DataError) else None


def _is_disconnect(error: BaseException) -> bool:
    alchemy = alchemy_errors()
    return (
        alchemy is not None
        and isinstance(error, alchemy.DBAPIError)
        and bool(getattr(error, "connection_invalidated", False))
    )
