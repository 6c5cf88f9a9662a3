"""Enqueue in the caller's transaction, for the code of this service: the client's own functions under one roof.

psycopg, SQLAlchemy and asyncpg connections, sync and async; the job commits or rolls back with what is beside it.
"""

from app.client.aio import enqueue as enqueue_async
from app.client.aio import enqueue_copy as enqueue_copy_async
from app.client.aio import enqueue_many as enqueue_many_async
from app.client.bulk import enqueue_copy
from app.client.enqueue import enqueue, enqueue_many
from app.client.errors import UniqueConflict
from app.client.job import BATCH_LIMIT
from app.client.places import AsyncPlace, SyncPlace

__all__ = [
    "BATCH_LIMIT",
    "AsyncPlace",
    "SyncPlace",
    "UniqueConflict",
    "enqueue",
    "enqueue_async",
    "enqueue_copy",
    "enqueue_copy_async",
    "enqueue_many",
    "enqueue_many_async",
]
