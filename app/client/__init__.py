"""What other programs install, as the package `tandem`: enqueue jobs in their own transaction.

Needs psycopg alone and imports nothing of the service. `tandem.aio` has the functions for async connections.
"""

from . import aio
from .bulk import enqueue_copy
from .enqueue import enqueue, enqueue_many
from .errors import Conflict, InvalidInput, TandemError, UniqueConflict
from .job import Enqueued, Job, OnFailure, Unique

__all__ = [
    "Conflict",
    "Enqueued",
    "InvalidInput",
    "Job",
    "OnFailure",
    "TandemError",
    "Unique",
    "UniqueConflict",
    "aio",
    "enqueue",
    "enqueue_copy",
    "enqueue_many",
]
