"""The errors of the client, and the root of the service's own: a stable code, a message, details for programs.

They know no HTTP, and what the database or the driver raises passes through as it is.
"""

from collections.abc import Mapping
from typing import Any


class TandemError(Exception):
    """Something a caller can act on.

    `code` is a stable kebab-case identifier ("payload-too-large"), `message` one sentence for a person,
    `detail` JSON-able facts for a program; none of them holds a secret.
    """

    def __init__(self, code: str, message: str, *, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail: dict[str, Any] = dict(detail or {})

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders (killable handlers), and the default would lose `code` and `detail`.
        return _restore, (type(self), self.code, self.message, self.detail), dict(vars(self))


def _restore(kind: type[TandemError], code: str, message: str, detail: dict[str, Any]) -> TandemError:
    return kind(code, message, detail=detail)


class InvalidInput(TandemError):
    """The caller sent something that can never be accepted as it is."""


class Conflict(TandemError):
    """The request contradicts the current state, for instance the same key with another body."""


class UniqueConflict(Conflict):
    """A unique key names a job with another payload; `detail` has the key, its queue and the first job's id."""
