"""Who may do what: four roles, and grants per topic for programs. Deny by default.

Knows no HTTP and no tokens: the edge says who the principal is, `may` says what it may do.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """The roles of the product page, section 4."""

    USER = "user"
    ADMIN = "admin"
    SYSTEM = "system"
    AUDITOR = "auditor"


class Operation(StrEnum):
    """Everything that an endpoint or a command can ask for."""

    PUBLISH = "publish"
    CONSUME = "consume"
    MONITOR = "monitor"
    MANAGE = "manage"
    READ_DEAD = "read-dead"
    RETRY_DEAD = "retry-dead"
    REPLAY = "replay"
    READ_AUDIT = "read-audit"
    VERIFY = "verify"


GRANTED: Final = frozenset({Operation.PUBLISH, Operation.CONSUME})
"""What a grant can give: to read or to change how topics are run takes a role."""
BY_ROLE: Final[dict[Role, frozenset[Operation]]] = {
    Role.USER: frozenset(),
    Role.ADMIN: frozenset(Operation),
    Role.SYSTEM: frozenset({Operation.MONITOR}),
    Role.AUDITOR: frozenset({Operation.MONITOR, Operation.READ_DEAD, Operation.READ_AUDIT, Operation.VERIFY}),
}
EVERY_TOPIC: Final = "*"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a name for the audit log, and a role."""

    name: str
    role: Role


def may(
    principal: Principal, operation: Operation, topic: str | None, grants: Collection[tuple[str, str]]
) -> bool:
    """Whether the principal may do this to the topic; `grants` are its (operation, topic) pairs."""
    if operation in BY_ROLE[principal.role]:
        return True
    if principal.role is not Role.SYSTEM or operation not in GRANTED or topic is None:
        return False
    return (operation, topic) in grants or (operation, EVERY_TOPIC) in grants
