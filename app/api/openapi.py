"""What the routers tell OpenAPI themselves: bodies that read_json reads, and the problems that a route may answer."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.problem_models import Problem
from app.api.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS

_REFERENCE: Final = "#/components/schemas/{model}"
_QUEUE_ADDRESS: Final = "/api/v1/queue/"
EVERYWHERE: Final = (400, 431)
"""A request without one Host, and one whose headers are too large: whatever it asks for."""
_REQUEST_ID: Final = {
    "description": "The call's own X-Request-ID, or one made for it; logs and problems name it",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
}
_OWN_REQUEST_ID: Final = {
    "description": "Kept if it is 1 to 64 letters, digits and . _ -; anything else is replaced",
    "schema": {"type": "string"},
}
_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`tandem keys create`) or a JWT; where authentication is off, nothing is needed",
    }
}
_bodies: set[type[BaseModel]] = set()


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body with `read_json` and validates it as `model`."""
    _bodies.add(model)
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def link(operation: str, description: str, **parameters: str) -> dict[str, Any]:
    """A link of a response: `operation` is the function that answers the call, `parameters` runtime expressions."""
    return {"operationId": operation, "description": description, "parameters": parameters}


def operation_id(route: APIRoute) -> str:
    """The function's name: short, stable, and what links refer to. A second address of an operation says so."""
    if route.path.startswith(_QUEUE_ADDRESS):
        return f"{route.name}_at_queue_address"
    return route.name if route.path.startswith(("/v1/", "/health/")) else f"{route.name}_at_old_address"


def problems(*statuses: int, model: type[Problem] = Problem) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that may answer these problems; `model` is what they look like there."""
    _bodies.add(model)
    return {status: _problem(status, model) for status in statuses}


def _problem(status: int, model: type[Problem]) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    told: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": schema}},
    }
    if status in (429, 503):
        told["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before the same call is repeated",
                "schema": {"type": "integer", "example": RETRY_AFTER_SECONDS},
            }
        }
    if status in (401, 403):
        told["headers"] = {
            "WWW-Authenticate": {"description": "What is asked for", "schema": {"type": "string"}}
        }
    return told


def install(app: FastAPI, permissions: Mapping[str, str]) -> None:
    """Let the document hold what routes cannot say themselves; `permissions` by "METHOD path", as auth knows them."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name, schema in _schemas().items():
            schemas.setdefault(name, schema)
        document["components"].setdefault("securitySchemes", _SCHEMES)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if "X-Request-ID" not in next(iter(operation["responses"].values())).get("headers", {}):
                    _complete(operation, permissions[f"{method.upper()} {path}"])
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(operation: dict[str, Any], permission: str) -> None:
    """What holds for every call, and what the framework says of errors that are none of ours."""
    responses = operation["responses"]
    if permission != "public":
        operation["security"] = [{"bearer": []}]
        operation["description"] = (
            f"{operation.get('description', '')}\n\nNeeds the permission {permission}.".strip()
        )
        for status, told in problems(401, 403, 429, 503).items():
            responses.setdefault(str(status), told)
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    for status, told in problems(*EVERYWHERE).items():
        responses.setdefault(str(status), told)
    for told in responses.values():
        told.setdefault("headers", {}).setdefault("X-Request-ID", _REQUEST_ID)
    operation.setdefault("parameters", []).append(
        {"name": "X-Request-ID", "in": "header", "required": False, **_OWN_REQUEST_ID}
    )


def _schemas() -> Mapping[str, Any]:
    models: list[type[BaseModel]] = [*sorted(_bodies, key=lambda model: model.__name__)]
    _, document = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    definitions: Mapping[str, Any] = document.get("$defs", {})
    return definitions
