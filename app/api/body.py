"""Reading a JSON body: the right media type, within a limit, strict, and validated into a model.

Used by routers instead of FastAPI's own body parameters, which accept far more than we can store.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from app.api.problems import MOST_ERRORS
from app.api.strict_json import parse
from app.errors import InvalidInput

Model = TypeVar("Model", bound=BaseModel)
LARGE = 64 * 1024
"""Bytes from which a body is parsed in a thread, so that one large request does not hold up the others."""


class Body(NamedTuple):
    """A body as it came and as the document it says."""

    raw: bytes
    document: Any


async def read_json(request: Request, *, limit: int) -> Body:
    """The request's JSON body. Raises InvalidInput: 415, 413, 400 or 422 by its code."""
    _check_media_type(request)
    raw = await _read(request, limit)
    document = await asyncio.to_thread(parse, raw) if len(raw) > LARGE else parse(raw)
    return Body(raw, document)


def validate(model: type[Model], body: Body) -> Model:
    """The body as `model`, strictly. Raises InvalidInput that points at each value that does not fit."""
    try:
        return model.model_validate_json(body.raw, strict=True)
    except ValidationError as error:
        # Inputs are left out: an answer must not repeat what somebody should not have sent.
        found = error.errors(include_input=False, include_url=False, include_context=False)
    unknown = all(one["type"] == "extra_forbidden" for one in found)
    count = len(found)
    raise InvalidInput(
        "unknown-field" if unknown else "validation-failed",
        f"{count} value{'s do' if count > 1 else ' does'} not fit",
        detail={"errors": [_field_error(one) for one in found[:MOST_ERRORS]]},
    )


def pointer(location: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) to a place in the body."""
    parts = (str(part)[:64].replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in parts)


def _field_error(one: Any) -> dict[str, str]:
    message = "is not a known field" if one["type"] == "extra_forbidden" else str(one["msg"])
    return {"pointer": pointer(one["loc"]), "detail": message.removeprefix("Value error, ")}


def _check_media_type(request: Request) -> None:
    kinds = request.headers.getlist("content-type")
    kind, _, parameters = kinds[0].partition(";") if len(kinds) == 1 else ("", "", "")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise InvalidInput("unsupported-media-type", "the body must be application/json in UTF-8")
    encodings = request.headers.getlist("content-encoding")
    if any(encoding.strip().lower() != "identity" for encoding in encodings):
        raise InvalidInput("unsupported-encoding", "the body must not be compressed")


async def _read(request: Request, limit: int) -> bytes:
    too_large = InvalidInput("body-too-large", f"the body is larger than the limit of {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
    except ClientDisconnect:
        raise InvalidInput("body-incomplete", "the connection ended before the body did") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
