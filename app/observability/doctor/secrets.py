"""Secrets at rest: customers' webhooks. Judges only; how they are sealed is in domains.customers.hooks."""

from app.observability.doctor.finding import Finding, Patient


async def check_secrets(patient: Patient) -> Finding:
    """No secret of a webhook is stored as plain text."""
    found = await patient.store.count_secrets()
    plain, count = found["plain"], found["secrets"]
    if plain == 0:
        return Finding("secrets", "ok", f"{count} secrets of webhooks, none in plain text", facts=found)
    text = f"{plain} of {count} secrets of customers' webhooks are stored in plain text"
    remedy = "give the key file a key for @webhooks, then `tandem customers seal-secrets` (docs/customers.md)"
    return Finding("secrets", "warn", text, remedy, found)
