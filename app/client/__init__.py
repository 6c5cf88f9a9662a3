"""What other programs install, as the package `tandem`: enqueue jobs and publish in their own transaction.

Needs psycopg alone and imports nothing of the service. `tandem.aio` has the functions for async connections.
"""

from . import aio
from .bulk import enqueue_copy
from .enqueue import enqueue, enqueue_many
from .errors import Conflict, InvalidInput, TandemError, UniqueConflict
from .job import Enqueued, Job, OnFailure, Unique
from .message import Message, Published
from .publish import publish, publish_many

__all__ = [
    "Conflict",
    "Enqueued",
    "InvalidInput",
    "Job",
    "Message",
    "OnFailure",
    "Published",
    "TandemError",
    "Unique",
    "UniqueConflict",
    "aio",
    "enqueue",
    "enqueue_copy",
    "enqueue_many",
    "publish",
    "publish_many",
]
