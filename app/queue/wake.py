"""Wake-up: who sleeps announces it with a shared advisory lock; who enqueued probes it after the commit.

A notification is a hint and may be lost; polling is the truth. What a probe can miss is covered by RECHECKS.
"""

import random
from collections.abc import Iterator

CHANNEL = "tandem_wake_"
CANCEL_CHANNEL = "tandem_cancel"
"""Says that a running job was asked to end; which one, the heartbeat finds out."""
RECHECKS = (0.005, 0.020, 0.100, 0.500)
"""Seconds after falling asleep at which a sleeper looks again: a foreign producer may probe before its commit."""
STEADY = 1.0
LANES = 32
SEATED_QUEUES = 8
"""A worker of more queues takes no seats: each is two locks of the server's table, which all workers share."""


def rechecks() -> Iterator[float]:
    """The waits of one sleep, in seconds: short ones first, then steady with jitter, so a fleet spreads out."""
    before = 0.0
    for moment in RECHECKS:
        yield moment - before
        before = moment
    while True:
        yield STEADY * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load


def channel(lane: int) -> str:
    """The LISTEN channel of a wake lane: what tells all who sleep there."""
    return f"{CHANNEL}{lane}"
