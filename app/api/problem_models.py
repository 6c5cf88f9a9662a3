"""What a problem (RFC 9457) looks like to schemas and checks, workers' included. problems.py answers with it."""

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, Field

MOST_ERRORS: Final = 20


class FieldError(BaseModel):
    """One thing that is wrong, and where: `pointer` is a JSON pointer into the body."""

    pointer: str = Field(examples=["/end_time"])
    detail: str = Field(examples=["is before start_time"])


class Problem(BaseModel):
    """A problem as RFC 9457 describes it. `type` is stable; `instance` names this request in the logs."""

    type: str = Field(examples=["urn:tandem:problem:validation-failed"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["1 value does not fit"])
    instance: str = Field(examples=["urn:tandem:request:0199f2d0c0de7000a1b2c3d4e5f60718"])
    errors: list[FieldError] | None = None


def pointer(location: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) to a place in the body."""
    parts = (str(part)[:64].replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in parts)
