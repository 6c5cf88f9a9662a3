"""Routes that are called for every job: found before all others, and served without FastAPI's injection.

Declared like any other route, so that permissions and the OpenAPI document know them. Not for endpoints with parameters
of their own: those need the injection.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, params
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.auth import requires

Endpoint = Callable[[Request], Awaitable[Response]]


def add(app: FastAPI, path: str, endpoint: Endpoint, *, method: str, needs: requires, **options: Any) -> None:
    """Let `endpoint` answer `method path` for callers who have the permission; `options` are those of FastAPI.

    Raises TypeError for an endpoint that takes more than the request.
    """
    if list(inspect.signature(endpoint).parameters) != ["request"]:
        raise TypeError(f"{endpoint.__name__} must take the request alone: nothing else is injected")
    app.router.add_api_route(
        path,
        endpoint,
        methods=[method],
        dependencies=[params.Depends(needs)],
        route_class_override=DirectRoute,
        **options,
    )


class DirectRoute(APIRoute):
    """A route that asks for the permission and calls its endpoint; errors go to the application's handlers."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # refuses it
            return
        request = Request(scope, receive, send)
        for declared in self.dependencies:
            assert isinstance(declared.dependency, requires)  # noqa: S101 - `add` puts nothing else there
            await declared.dependency(request)
        response = await self.endpoint(request)
        await response(scope, receive, send)
