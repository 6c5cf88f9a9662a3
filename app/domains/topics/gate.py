"""Asking for permission at the edge: allow, or refuse with an audit entry and a fact that is counted."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from app import events
from app.api.principals import Principal
from app.domains.topics import repository
from app.domains.topics.errors import forbidden
from app.domains.topics.facts import TopicDenied
from app.domains.topics.permissions import Operation, may
from app.domains.topics.repository import Connection

Open = Callable[[], AbstractAsyncContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class Gate:
    """One request's question. `open` gives a connection whose statements commit by themselves."""

    open: Open
    principal: Principal
    operation: Operation

    @property
    def actor(self) -> str:
        """Who it is, for the audit log."""
        return self.principal.subject

    async def enter(self, topic: str | None) -> None:
        """Raise Forbidden unless the principal may do this to the topic."""
        if may(self.principal, self.operation, topic, ()):
            return  # the common case costs no look at the grants
        async with self.open() as connection:
            grants = await repository.read_grants(connection, self.principal.subject)
        if not may(self.principal, self.operation, topic, grants):
            await deny(self.open, self.principal, self.operation, topic)
            raise forbidden(self.operation)


async def deny(open_: Open, principal: Principal, operation: Operation, topic: str | None) -> None:
    """Write the denial down, before it is told, and count it."""
    roles = sorted(principal.roles)
    async with open_() as connection:
        await repository.write_audit(
            connection,
            actor=principal.subject,
            action="denied",
            topic=topic,
            detail={"operation": operation, "roles": roles},
        )
    events.publish(TopicDenied(operation))
