"""What keeps vacuum from removing dead rows, and how many there are."""

from datetime import timedelta

from app.observability.doctor.finding import Finding, Patient, Verdict

OLD = timedelta(minutes=5)
MANY_XIDS, WRAPPING_XIDS = 1_000_000, 150_000_000
MANY_DEAD, DEAD_PER_LIVE = 100_000, 5


async def check_horizon(patient: Patient) -> Finding:
    """Nobody holds an old snapshot."""
    holders, _ = await patient.store.inspect("horizon")
    server = await patient.store.read_server()
    facts = {"holders": holders, "sees_all": server["sees_all"]}
    old = [
        one
        for one in holders
        if one["xids"] >= MANY_XIDS or (one["since"] is not None and one["since"] >= OLD)
    ]
    if old:
        worst = old[0]
        text = f"{worst['holder']} {worst['id']} ({worst['detail']}) keeps {worst['xids']} transactions of dead rows"
        text += f", since {worst['since']}" if worst["since"] is not None else ""
        verdict: Verdict = "fail" if worst["xids"] >= WRAPPING_XIDS else "warn"
        return Finding("horizon", verdict, text, _way_out(str(worst["holder"]), str(worst["id"])), facts)
    if not server["sees_all"]:
        text = f"nothing old, but role {server['role']} sees only its own sessions"
        return Finding("horizon", "warn", text, f"GRANT pg_read_all_stats TO {server['role']}", facts)
    age = max((one["xids"] for one in holders), default=0)
    return Finding("horizon", "ok", f"the oldest snapshot is {age} transactions old", facts=facts)


def _way_out(holder: str, name: str) -> str:
    return {
        "session": f"SELECT pg_terminate_backend({name})",
        "replication slot": f"if nobody reads it: SELECT pg_drop_replication_slot('{name}')",
        "prepared transaction": f"COMMIT PREPARED '{name}' or ROLLBACK PREPARED '{name}'",
        "standby": "end the long query on the standby, or set hot_standby_feedback = off there",
    }.get(holder, "see sql/inspect/horizon.sql")


async def check_dead_rows(patient: Patient) -> Finding:
    """The tables that every job passes through are vacuumed as fast as they fill."""
    _, tables = await patient.store.inspect("horizon")
    facts = {"tables": tables}
    crowded = [one for one in tables if one["dead"] > MANY_DEAD and one["dead"] > DEAD_PER_LIVE * one["live"]]
    most = max(tables, key=lambda one: one["dead"], default=None)
    if most is None:
        return Finding("dead-rows", "ok", "no statistics yet", facts=facts)
    told = crowded[0] if crowded else most
    text = (
        f"{told['hot_table']} has {told['dead']} dead rows beside {told['live']} live ones ({told['size']})"
    )
    if crowded:
        remedy = f"if the horizon is young: VACUUM tandem.{told['hot_table']}, and let autovacuum work harder"
        return Finding("dead-rows", "warn", text, remedy, facts)
    return Finding("dead-rows", "ok", text, facts=facts)
