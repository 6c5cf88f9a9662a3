"""A customer's terms as the queue's limits of its partition key: jobs at once, weight, global limit or not."""

from typing import Any

import psycopg

from app.domains.customers.models import Terms


async def share_terms(connection: psycopg.AsyncConnection[Any], terms: Terms) -> None:
    """Tell the queue what holds for the customer from now on; in the transaction that changes it."""
