"""Errors as problem details (RFC 9457), the only shape in which this API reports one.

`AppError.message` is shown to the client; anything that was not foreseen shows nothing but the request's id.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.problem_models import MOST_ERRORS
from app.api.sqlstates import alchemy_errors, translate
from app.context import present
from app.errors import (
    AppError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    TooMany,
    Unauthenticated,
    Unavailable,
)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2

_STATUS_BY_CODE: Final = {
    "malformed-json": 400,
    "duplicate-key": 400,
    "body-incomplete": 400,
    "bad-cursor": 400,
    "bad-host": 400,
    "body-too-large": 413,
    "conversation-log-too-large": 413,
    "unsupported-media-type": 415,
    "unsupported-encoding": 415,
    "headers-too-large": 431,
}
_STATUS_BY_TYPE: Final[tuple[tuple[type[AppError], int], ...]] = (
    (InvalidInput, 422),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (TooMany, 429),
    (Unavailable, 503),
    (OutcomeUnknown, 503),
)
# A client that keeps sending a body we will not read gets the connection closed.
_CLOSING: Final = (413, 431)

_log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _parameter_error)
    app.add_exception_handler(psycopg.Error, _database_error)
    alchemy = alchemy_errors()  # every router is imported by now, so none brings it later
    if alchemy is not None:
        app.add_exception_handler(alchemy.SQLAlchemyError, _database_error)


def status_of(error: AppError) -> int:
    """The HTTP status of an error of ours; 500 for one that no client can cause."""
    if error.code in _STATUS_BY_CODE:
        return _STATUS_BY_CODE[error.code]
    return next((status for kind, status in _STATUS_BY_TYPE if isinstance(error, kind)), 500)


def render(error: AppError) -> Response:
    """An error of ours as a response."""
    status = status_of(error)
    headers: dict[str, str] = dict(error.detail.get("headers", {}))
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status in _CLOSING:
        headers["Connection"] = "close"
    if status >= 500:
        _log.warning("%s: %s %s", error.code, error.message, error.detail or "")
    return respond(
        status,
        error.code,
        error.message,
        errors=error.detail.get("errors"),
        members=error.detail.get("members"),
        headers=headers,
    )


def respond(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Any = None,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem of this status; `code` becomes its type, `members` are what this problem says beside the usual."""
    body: dict[str, Any] = {
        "type": f"urn:tandem:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": f"urn:tandem:request:{present().get('request_id', '')}",
    }
    if errors:
        body["errors"] = errors[:MOST_ERRORS]
    body |= members or {}
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def unforeseen(error: BaseException) -> Response:
    """The answer to an error of our own making: it is logged whole, and the client learns its request's id."""
    _log.error("unforeseen error", exc_info=error)
    return respond(
        500, "internal-error", "something went wrong on our side; the request's id helps to find it"
    )


async def _app_error(_: Request, error: Exception) -> Response:
    return render(error) if isinstance(error, AppError) else unforeseen(error)


async def _database_error(_: Request, error: Exception) -> Response:
    ours = translate(error)
    if ours is None:
        return unforeseen(error)
    _log.warning("the database failed: %s", str(error).partition("\n")[0])
    return render(ours)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return unforeseen(error)
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "-").replace("'", "")
    known = {404: "there is nothing at this address", 405: "this address does not take this method"}
    detail = known.get(error.status_code, phrase)
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return respond(error.status_code, code, detail, headers=headers)


def _allowed(request: Request) -> str:
    """The methods of every route at this address: the framework names those of the first one alone."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        pattern = getattr(route, "path_regex", None)
        if pattern is not None and pattern.match(request.scope["path"]):
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))


async def _parameter_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return unforeseen(error)
    errors = [
        {"pointer": "/" + "/".join(str(part) for part in one["loc"]), "detail": str(one["msg"])}
        for one in error.errors()[:MOST_ERRORS]
    ]
    return respond(422, "validation-failed", f"{len(errors)} parameters do not fit", errors=errors)
