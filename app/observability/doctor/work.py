"""The work itself: leases that ran out, who sweeps, queues that nobody serves, floors, lost jobs."""

from datetime import timedelta

from app.observability.doctor.finding import Finding, Patient
from app.queue import admin

LATE, VERY_LATE = timedelta(seconds=30), timedelta(minutes=2)
SWEEP_LATE = timedelta(minutes=1)


async def check_leases(patient: Patient) -> Finding:
    """Jobs of dead workers are taken back within seconds."""
    found = await patient.store.count_leases()
    held, overdue, lag = found["held"], found["overdue"], found["lag"] or timedelta()
    facts = {"held": held, "overdue": overdue, "oldest_expired_lease_seconds": lag.total_seconds()}
    if lag < LATE:
        return Finding("leases", "ok", f"{held} held, {overdue} ran out just now", facts=facts)
    text = f"{overdue} of {held} leases ran out, the oldest {_rounded(lag)} ago, and nobody took the job back"
    remedy = "see sql/inspect/stuck_leases.sql: nobody sweeps, or no sweeper knows the kind's hook"
    return Finding("leases", "fail" if lag >= VERY_LATE else "warn", text, remedy, facts)


async def check_sweeper(patient: Patient) -> Finding:
    """Somebody leads the sweep, or swept a moment ago."""
    leader = await patient.store.read_sweeper()
    [due] = await patient.store.inspect("due_not_claimed")
    late = [row for row in due if row["place"] == "scheduled" and row["oldest"] >= SWEEP_LATE]
    jobs = sum(row["jobs"] for row in late)
    facts = {"leader": leader["holder"] if leader else None, "overdue_jobs": jobs}
    who = (
        f"{leader['holder']} leads since {_rounded(leader['leads_for'])}"
        if leader
        else "nobody leads the sweep"
    )
    if late:
        text = (
            f"{who}, and {jobs} jobs have been due for up to {_rounded(max(row['oldest'] for row in late))}"
        )
        remedy = "start a worker or `tandem sweep`; with a leader, its log names the step that fails"
        return Finding("sweeper", "fail", text, remedy, facts)
    if leader is None:
        remedy = "start a worker or `tandem sweep`, unless cron runs `tandem sweep --once`"
        return Finding("sweeper", "warn", who, remedy, facts)
    return Finding("sweeper", "ok", who, facts=facts)


async def check_queues(patient: Patient) -> Finding:
    """Every queue with ready jobs has a live worker, unless it is paused."""
    [due] = await patient.store.inspect("due_not_claimed")
    queues = await admin.list_queues(patient.connection)
    paused = [row["queue"] for row in queues if row["paused_at"] is not None]
    ready = [row for row in due if row["place"] == "ready"]
    unserved = [row["queue"] for row in ready if row["likely"].startswith("no live worker")]
    idle = [row["queue"] for row in ready if row["likely"] == "workers have room"]
    facts = {"paused": paused, "unserved": unserved, "not_claimed": idle}
    note = f"; paused: {', '.join(paused)}" if paused else ""
    if unserved:
        text = f"jobs wait in {', '.join(unserved)}, which no live worker serves{note}"
        return Finding("queues", "warn", text, f"tandem worker --queues {','.join(unserved)}", facts)
    if idle:
        text = f"jobs wait in {', '.join(idle)} although workers have room{note}"
        return Finding(
            "queues", "warn", text, "see sql/inspect/sleepers.sql, floors.sql, the worker's log", facts
        )
    return Finding("queues", "ok", f"{len(queues)} queues, none waits for a worker{note}", facts=facts)


async def check_workers(patient: Patient) -> Finding:
    """Workers are alive and of one version."""
    [workers] = await patient.store.inspect("workers")
    alive = [row for row in workers if row["state"] == "alive"]
    silent = [row for row in workers if row["state"] == "silent" and row["held"]]
    versions = sorted({row["version"] for row in alive})
    facts = {"alive": len(alive), "silent_with_leases": len(silent), "versions": versions}
    text = f"{len(alive)} alive with {sum(row['slots'] for row in alive)} slots"
    if silent:
        names = ", ".join(row["worker"] for row in silent[:3])
        text += f"; {len(silent)} silent ones hold leases ({names})"
        return Finding(
            "workers", "warn", text, "nothing, if they died: their leases run out by themselves", facts
        )
    if len(versions) > 1:
        return Finding(
            "workers", "warn", f"{text} of versions {', '.join(versions)}", "end the upgrade", facts
        )
    return Finding("workers", "ok", text, facts=facts)


async def check_floors(patient: Patient) -> Finding:
    """No ready job lies below a safe floor, where no claim looks."""
    [floors] = await patient.store.inspect("floors")
    below = [row for row in floors if row["below"]]
    facts = {"below": below}
    if below:
        jobs = sum(row["below"] for row in below)
        text = f"{jobs} ready jobs lie below the safe floor of their lane and are never claimed"
        remedy = "a bug, please report it; DELETE FROM tandem.lane_floor, then restart the workers"
        return Finding("floors", "fail", text, remedy, facts)
    return Finding("floors", "ok", "no ready job lies below a safe floor", facts=facts)


async def check_membership(patient: Patient) -> Finding:
    """Every job stands in exactly one place. Reads every job."""
    wrong = await admin.check_membership(patient.connection)
    facts = {"wrong": wrong}
    if wrong:
        some = ", ".join(f"{row['job_id']} ({row['problem']})" for row in wrong[:3])
        more = " or more" if len(wrong) >= 100 else ""
        text = f"{len(wrong)}{more} jobs do not stand in exactly one place: {some}"
        remedy = "a bug or a change by hand: keep the rows, see sql/inspect/membership.sql, report it"
        return Finding("membership", "fail", text, remedy, facts)
    return Finding("membership", "ok", "every job stands in exactly one place", facts=facts)


def _rounded(span: timedelta) -> timedelta:
    return timedelta(seconds=round(span.total_seconds()))
