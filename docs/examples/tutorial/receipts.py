"""The handlers of docs/tutorial.md: receipts for orders, with one that fails at first and one exactly-once effect."""

from dataclasses import dataclass

from app.queue.kinds import Registry
from app.queue.retry import HandlerError, Retrying, RetryPolicy
from app.queue.running import Job

registry = Registry()


@dataclass
class Receipt:
    """The payload: keys, not data. The order itself stands in its table."""

    order: int


@registry.handler("send-receipt", payload=Receipt, timeout=10)
async def send_receipt(job: Job[Receipt]) -> dict[str, str]:
    """The smallest handler: what it returns is kept as the job's result."""
    return {"sent": f"receipt for order {job.payload.order}"}


@registry.handler(
    "print-label", payload=Receipt, retry=Retrying(own=RetryPolicy(max_attempts=3, delays=(1.0, 2.0)))
)
async def print_label(job: Job[Receipt]) -> None:
    """A printer that is jammed at the first try, and never prints order 13."""
    if job.payload.order == 13:
        raise HandlerError("no label for order 13", error_class="permanent", code="unlucky")
    if job.attempt == 1:
        raise ConnectionError("the printer is jammed")


@registry.handler("book-order", payload=Receipt)
async def book_order(job: Job[Receipt]) -> None:
    """Exactly once: the row in the ledger and the end of the job are one transaction."""
    async with job.transaction() as transaction:
        await transaction.connection.execute(
            "INSERT INTO ledger (order_id, amount) SELECT id, total FROM orders WHERE id = %s",
            (job.payload.order,),
        )
        transaction.result = {"booked": job.payload.order}
