"""Who may do what with topics: roles give permissions, grants give topics. Deny by default.

Knows no HTTP and no credentials: the edge says who the principal is, `may` says what it may do to which topic.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from app.api.principals import Principal


class Operation(StrEnum):
    """The permissions of the topics' endpoints, as routes declare them; app/api/principals.py gives them to roles."""

    PUBLISH = "topics:publish"
    CONSUME = "topics:consume"
    READ = "topics:read"
    MANAGE = "topics:manage"
    READ_DEAD = "topics:read-dead"
    RETRY_DEAD = "topics:retry-dead"
    REPLAY = "topics:replay"


PER_TOPIC: Final = {Operation.PUBLISH: "publish", Operation.CONSUME: "consume"}
"""What the role alone does not give: it takes a grant for the topic, too (table topic_grant)."""
EVERY: Final = "topics:every"
"""Held by roles that need no grants: admin."""
EVERY_TOPIC: Final = "*"


def may(
    principal: Principal, operation: Operation, topic: str | None, grants: Collection[tuple[str, str]]
) -> bool:
    """Whether the principal may do this to the topic; `grants` are its own (operation, topic) pairs."""
    if not principal.may(operation):
        return False
    if operation not in PER_TOPIC or principal.may(EVERY):
        return True
    name = PER_TOPIC[operation]
    return topic is not None and ((name, topic) in grants or (name, EVERY_TOPIC) in grants)
