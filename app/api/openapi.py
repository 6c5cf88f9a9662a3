"""What the routers tell OpenAPI themselves: bodies that read_json reads, and the problems that a route may answer."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, Problem

_REFERENCE: Final = "#/components/schemas/{model}"
_bodies: set[type[BaseModel]] = set()


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body with `read_json` and validates it as `model`."""
    _bodies.add(model)
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that may answer these problems."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=Problem.__name__)}
    told: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": schema}},
    }
    if status == 503:
        told["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before the same call is repeated",
                "schema": {"type": "integer", "example": RETRY_AFTER_SECONDS},
            }
        }
    return told


def install(app: FastAPI) -> None:
    """Let the application's document hold the schemas that `json_body` and `problems` refer to."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name, schema in _schemas().items():
            schemas.setdefault(name, schema)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _schemas() -> Mapping[str, Any]:
    models: list[type[BaseModel]] = [Problem, *sorted(_bodies, key=lambda model: model.__name__)]
    _, document = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    definitions: Mapping[str, Any] = document.get("$defs", {})
    return definitions
