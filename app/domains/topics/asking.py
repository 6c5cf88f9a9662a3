"""What the topics' routes share at the edge: permissions that are written down when denied, and the form of errors."""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from app.api import problems
from app.api.access import Access
from app.api.auth import principal, requires
from app.domains.topics.gate import Gate, deny
from app.domains.topics.permissions import Operation
from app.errors import AppError, Forbidden


class asks(requires):  # noqa: N801 - read as a word, like `requires`
    """A dependency that declares the permission of a route, writes denials down, and answers the Gate."""

    notes = True

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        self.operation = operation

    async def __call__(self, connection: HTTPConnection) -> Gate:  # type: ignore[override]
        """What asks about the topic. Raises what `requires` raises."""
        access: Access = connection.app.state.access
        try:
            caller = await super().__call__(connection)
        except Forbidden as error:
            if error.code != "forbidden":  # nobody was identified: such refusals are gathered in denials.py
                raise
            refused = await principal(connection)
            await deny(access.write_at_once, refused, self.operation, connection.path_params.get("topic"))
            raise
        return Gate(access.write_at_once, caller, self.operation)


Publishing = Annotated[Gate, Depends(asks(Operation.PUBLISH))]
Consuming = Annotated[Gate, Depends(asks(Operation.CONSUME))]
Reading = Annotated[Gate, Depends(asks(Operation.READ))]
Managing = Annotated[Gate, Depends(asks(Operation.MANAGE))]
ReadingDead = Annotated[Gate, Depends(asks(Operation.READ_DEAD))]
RetryingDead = Annotated[Gate, Depends(asks(Operation.RETRY_DEAD))]
Replaying = Annotated[Gate, Depends(asks(Operation.REPLAY))]


class TellsStatus(APIRoute):
    """A route whose errors carry `status` "error" and `error` beside the members of their problem."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, dependencies included."""
        handle = super().get_route_handler()

        async def telling(request: Request) -> Response:
            try:
                return await handle(request)
            except AppError as error:
                return _told(error)

        return telling


def _told(error: AppError) -> Response:
    """The error's problem, with the members that the interface names."""
    told = problems.render(error)
    body = json.loads(bytes(told.body)) | {"status": "error", "error": error.message}
    kept = {name: value for name, value in told.headers.items() if not name.startswith("content-")}
    return Response(json.dumps(body), told.status_code, kept, problems.MEDIA_TYPE)
