"""The fact bus: what queue and domains report (frozen dataclasses), and who listens to it.

In-process and synchronous, for metrics and logs. Not a queue: a fact that nobody subscribed to is gone.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

Fact = TypeVar("Fact")
Unsubscribe = Callable[[], None]

_log = logging.getLogger(__name__)
# Tuples are replaced, never changed, so publishing needs no lock and sees a consistent set of subscribers.
_subscribers: dict[type[Any], tuple[Callable[[Any], None], ...]] = {}


def subscribe(kind: type[Fact], handler: Callable[[Fact], None]) -> Unsubscribe:
    """Call `handler` with every published fact of exactly this type; the result ends the subscription."""
    _subscribers[kind] = (*_subscribers.get(kind, ()), handler)

    def unsubscribe() -> None:
        _subscribers[kind] = tuple(one for one in _subscribers.get(kind, ()) if one is not handler)

    return unsubscribe


def publish(fact: object) -> None:
    """Report a fact to its subscribers, in the order in which they subscribed. Never raises.

    A subscriber must be quick: it runs inside the work that it observes.
    """
    for handler in _subscribers.get(type(fact), ()):
        try:
            handler(fact)
        except Exception:
            # What is observed must not fail because its observer did.
            _log.exception("a subscriber of %s failed", type(fact).__name__)
