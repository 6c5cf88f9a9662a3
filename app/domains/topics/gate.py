"""Asking for permission at the edge: allow, or refuse with an audit entry and a fact that is counted."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from app import events
from app.domains.topics import repository
from app.domains.topics.errors import forbidden
from app.domains.topics.facts import Denied
from app.domains.topics.permissions import BY_ROLE, Operation, Principal, may
from app.domains.topics.repository import Connection

Open = Callable[[], AbstractAsyncContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class Gate:
    """One request's question. `open` gives a connection whose statements commit by themselves."""

    open: Open
    principal: Principal

    async def ask(self, operation: Operation, topic: str | None) -> None:
        """Raise Forbidden unless the principal may do this; the denial is written down before it is told."""
        if operation in BY_ROLE[self.principal.role]:
            return  # the common case costs no look at the grants
        async with self.open() as connection:
            grants = await repository.read_grants(connection, self.principal.name)
            if may(self.principal, operation, topic, grants):
                return
            await repository.write_audit(
                connection,
                actor=self.principal.name,
                action="denied",
                topic=topic,
                detail={"operation": operation, "role": self.principal.role},
            )
        events.publish(Denied(operation, self.principal.role))
        raise forbidden(operation)
