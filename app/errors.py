"""The one error type of the service: a stable code, a message for people, details for programs.

It knows no HTTP; the API turns codes into statuses in one place.
"""

from app.client.errors import Conflict, InvalidInput, TandemError

AppError = TandemError
"""The root of all: `code`, `message`, `detail`. One type with what other programs catch from the client."""


class NotFound(AppError):
    """There is no such thing, or it belongs to somebody else."""


class Unavailable(AppError):
    """Not now: nothing was done, and the same call may succeed later."""


class OutcomeUnknown(AppError):
    """COMMIT was sent and its answer was lost: repeat the call with the same key to learn the outcome."""


class Unauthenticated(AppError):
    """The caller did not say who it is, or not believably."""


class Forbidden(AppError):
    """The caller is known and may not do this."""


class TooMany(AppError):
    """The caller asks too often; `detail` may hold `headers` that say when to come back."""


class ConfigurationError(AppError):
    """The operator must change something before this can work."""


__all__ = [
    "AppError",
    "ConfigurationError",
    "Conflict",
    "Forbidden",
    "InvalidInput",
    "NotFound",
    "OutcomeUnknown",
    "TooMany",
    "Unauthenticated",
    "Unavailable",
]
