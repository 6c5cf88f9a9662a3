"""A customer's terms as the queue's limits of its partition key: jobs at once, weight, global limit or not."""

from typing import Any

import psycopg

from app.domains.customers import repository
from app.domains.customers.models import Terms


async def share_terms(connection: psycopg.AsyncConnection[Any], terms: Terms) -> None:
    """Tell the queue what holds for the customer from now on; in the transaction that changes it."""
    await repository.manage_queue(connection)
    await repository.share_terms(
        connection,
        customer_id=terms.customer.customer_id,
        max_running=terms.max_running,
        weight=terms.weight,
        exempt=terms.tier.bypasses_global,
    )
