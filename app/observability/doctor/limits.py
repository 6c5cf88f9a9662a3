"""Limits that do not hold everywhere: kinds that also run in plain queues. Judges only; limits are SQL."""

from app.observability.doctor.finding import Finding, Patient


async def check_limits(patient: Patient) -> Finding:
    """Every kind with a limit runs in managed queues alone, for a plain queue knows no limits."""
    loose = await patient.store.find_loose_kinds()
    facts = {"loose": {row["kind"]: row["queues"] for row in loose}}
    if not loose:
        return Finding("limits", "ok", "every limit of a kind holds in all queues it runs in", facts=facts)
    text = "; ".join(f"kind {row['kind']} also runs in {', '.join(row['queues'])}" for row in loose)
    queues = sorted({queue for row in loose for queue in row["queues"]})
    remedy = " && ".join(f"tandem queues manage {queue}" for queue in queues)
    return Finding("limits", "warn", f"{text}: plain, so its limit does not hold there", remedy, facts)
