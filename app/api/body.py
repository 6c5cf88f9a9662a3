"""Reading a JSON body: the right media type, within a limit, strict, and validated into a model.

Used by routers instead of FastAPI's own body parameters, which accept far more than we can store.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import Receive

from app.api.problem_models import MOST_ERRORS, pointer
from app.api.strict_json import parse
from app.errors import InvalidInput

Model = TypeVar("Model", bound=BaseModel)
LARGE = 64 * 1024
"""Bytes from which a body is parsed in a thread, so that one large request does not hold up the others."""
_JSON: Final = b"application/json"


class Body(NamedTuple):
    """A body as it came and as the document it says."""

    raw: bytes
    document: Any


async def read_json(request: Request, *, limit: int) -> Body:
    """The request's JSON body. Raises InvalidInput: 415, 413, 400 or 422 by its code."""
    declared = _declared_length(request.scope["headers"])
    raw = await _read(request.receive, declared, limit)
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


def _field_error(one: Any) -> dict[str, str]:
    message = "is not a known field" if one["type"] == "extra_forbidden" else str(one["msg"])
    return {"pointer": pointer(one["loc"]), "detail": message.removeprefix("Value error, ")}


def _declared_length(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """What the head says of the body's length, b"" for nothing. Raises InvalidInput for a body of another kind."""
    kinds: list[bytes] = []
    length, compressed = b"", False
    # One walk over the raw pairs: each look-up by name would be another.
    for name, value in headers:
        if name == b"content-type":
            kinds.append(value)
        elif name == b"content-length":
            length = length or value
        elif name == b"content-encoding":
            compressed |= value.strip().lower() != b"identity"
    if kinds != [_JSON]:
        kind, _, parameters = kinds[0].partition(b";") if len(kinds) == 1 else (b"", b"", b"")
        charset = parameters.strip().lower().removeprefix(b"charset=").strip(b'"')
        if kind.strip().lower() != _JSON or charset not in (b"", b"utf-8", b"utf8"):
            raise InvalidInput("unsupported-media-type", "the body must be application/json in UTF-8")
    if compressed:
        raise InvalidInput("unsupported-encoding", "the body must not be compressed")
    return length


async def _read(receive: Receive, declared: bytes, limit: int) -> bytes:
    if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise InvalidInput("body-incomplete", "the connection ended before the body did")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else chunk
        chunks.append(chunk)


def _too_large(limit: int) -> InvalidInput:
    return InvalidInput("body-too-large", f"the body is larger than the limit of {limit} bytes")
