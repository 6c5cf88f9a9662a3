"""What can go wrong for a customer, as errors of the service. Texts in both languages are in messages.py."""

from app.errors import Conflict, InvalidInput, NotFound


def unknown_job() -> NotFound:
    """There is no such job, or it is somebody else's: the same answer to both."""
    return NotFound("unknown-job", "there is no such job")


def unknown_workflow(known: list[str]) -> NotFound:
    """Nobody offers this workflow."""
    return NotFound("unknown-workflow", f"there is no such workflow; there are {', '.join(known)}")


def unknown_tier(tier: str) -> InvalidInput:
    """The token or an administrator names a tier that is not in the table."""
    return InvalidInput("unknown-tier", f"there is no tier {tier[:32]!r}")


def unknown_customer(customer_id: str) -> NotFound:
    """Nobody of this name has ever been seen."""
    return NotFound("unknown-customer", f"there is no customer {customer_id!r}")


def key_reused() -> InvalidInput:
    """The Idempotency-Key came before with another body."""
    return InvalidInput(
        "idempotency-key-reused",
        "this Idempotency-Key came before with another body: use another key for another job",
    )


def not_finished(status: str) -> Conflict:
    """There is no result yet, or there will be none."""
    message = f"the job is {status}: it has no result"
    return Conflict("wrong-state", message, detail={"members": {"job_status": status}})


def already_ended(status: str) -> Conflict:
    """What has ended cannot be cancelled."""
    message = f"the job has ended already: it is {status}"
    return Conflict("wrong-state", message, detail={"members": {"job_status": status}})
