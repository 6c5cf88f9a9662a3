"""The one error type of the service: a stable code, a message for people, details for programs.

It knows no HTTP; the API turns codes into statuses in one place.
"""

from collections.abc import Mapping
from typing import Any


class AppError(Exception):
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
        return _restore, (type(self), self.code, self.message, self.detail)


def _restore(kind: type[AppError], code: str, message: str, detail: dict[str, Any]) -> AppError:
    return kind(code, message, detail=detail)


class InvalidInput(AppError):
    """The caller sent something that can never be accepted as it is."""


class NotFound(AppError):
    """There is no such thing, or it belongs to somebody else."""


class Conflict(AppError):
    """The request contradicts the current state, for instance the same key with another body."""


class Unavailable(AppError):
    """Not now: nothing was done, and the same call may succeed later."""


class OutcomeUnknown(AppError):
    """COMMIT was sent and its answer was lost: repeat the call with the same key to learn the outcome."""


class ConfigurationError(AppError):
    """The operator must change something before this can work."""
