"""The server: its version, what its settings make of a commit, its connections, and the schema in it."""

from statistics import median
from time import monotonic

from app.database.version import known
from app.observability.doctor.finding import Finding, Patient, Verdict

FIRST_SOUND = {15: 16, 16: 12, 17: 8, 18: 2}
"""Minor releases with the fix for LISTEN failing on a transaction status that vacuum removed (of November 2025)."""
UNSAFE: tuple[tuple[str, tuple[str, ...], Verdict, str], ...] = (
    ("fsync", ("off",), "fail", "a crash of the server may destroy the database"),
    ("full_page_writes", ("off",), "fail", "a crash of the server may destroy the database"),
    ("synchronous_commit", ("off", "local"), "warn", "accepted requests may be lost otherwise"),
    ("autovacuum", ("off",), "fail", "dead rows are never removed otherwise"),
    ("track_counts", ("off",), "fail", "autovacuum does not know where to work otherwise"),
)
"""Setting, its bad values, how bad, and why."""
SLOW_MS = 20.0
ROUNDS = 7
CROWDED, FULL = 0.80, 0.95


async def check_connection(patient: Patient) -> Finding:
    """How long a round trip takes: a claim is one, a finish is one."""
    times = []
    for _ in range(ROUNDS):
        started = monotonic()
        await patient.connection.execute("SELECT 1")
        times.append((monotonic() - started) * 1000)
    server = await patient.store.read_server()
    took = median(times)
    facts = {"round_trip_ms": round(took, 3), "role": server["role"], "database": server["database"]}
    text = f"database {server['database']} as {server['role']}, {took:.2f} ms per round trip"
    if took > SLOW_MS:
        remedy = "run API and workers near the database: every claim and every finish is a round trip"
        return Finding("connection", "warn", text, remedy, facts)
    return Finding("connection", "ok", text, facts=facts)


async def check_server(patient: Patient) -> Finding:
    """A primary that takes writes, and a release without known holes in LISTEN."""
    server = await patient.store.read_server()
    major, minor = divmod(server["number"], 10_000)
    facts = {name: server[name] for name in ("version", "standby", "read_only")}
    text = f"PostgreSQL {server['version']}"
    if server["standby"]:
        remedy = "point DATABASE_URL to the primary, with target_session_attrs=read-write if hosts are listed"
        return Finding("server", "fail", f"{text}, a standby: it takes no writes", remedy, facts)
    if server["read_only"]:
        remedy = "reset default_transaction_read_only for this role, database or server"
        return Finding("server", "fail", f"{text}, transactions are read-only", remedy, facts)
    if minor < FIRST_SOUND.get(major, 0):
        remedy = f"update to {major}.{FIRST_SOUND[major]} or later: LISTEN may fail after a vacuum until then"
        return Finding("server", "warn", f"{text} is behind its minor releases", remedy, facts)
    return Finding("server", "ok", text, facts=facts)


async def check_schema(patient: Patient) -> Finding:
    """The schema is the one this code was written for."""
    found = await patient.store.read_schema()
    needed = known()[-1]
    facts = {"found": found, "needed": needed}
    if found == needed:
        return Finding("schema", "ok", f"at {found}, as this code needs it", facts=facts)
    if found is not None and found not in known():
        remedy = "run the release that made this schema, or a later one"
        return Finding("schema", "fail", f"at {found}, newer than this code ({needed})", remedy, facts)
    text = f"{'empty' if found is None else 'at ' + found}, this code needs {needed}"
    return Finding("schema", "fail", text, "run `tandem db upgrade`", facts)


async def check_settings(patient: Patient) -> Finding:
    """A commit is on disk when it is answered, and dead rows are removed."""
    found = await patient.store.read_settings()
    bad = [one for one in UNSAFE if found.get(one[0]) in one[1]]
    if not bad and found.get("idle_session_timeout", "0") != "0":
        text = f"the server ends sessions that idle for {found['idle_session_timeout']} ms"
        remedy = "ALTER ROLE ... SET idle_session_timeout = 0: workers idle in LISTEN, and open a new session each time"
        return Finding("settings", "warn", text, remedy, dict(found))
    if not bad:
        return Finding("settings", "ok", "commits are flushed, autovacuum runs", facts=dict(found))
    verdict: Verdict = "fail" if any(one[2] == "fail" for one in bad) else "warn"
    text = ", ".join(f"{name} is {found[name]}" for name, *_ in bad)
    remedy = "; ".join(f"{name} = on: {why}" for name, _, _, why in bad)
    return Finding("settings", verdict, text, remedy, dict(found))


async def check_connections(patient: Patient) -> Finding:
    """Room for the pools of the processes that are to come."""
    found = await patient.store.count_connections()
    share = found["used"] / max(1, found["most"])
    pool = patient.settings.database.pool_size
    facts = {**found, "pool_size": pool}
    text = f"{found['used']} of {found['most']} in use, {found['ours']} by tandem; a pool takes up to {pool}"
    if share >= CROWDED:
        remedy = "fewer processes, smaller pools (TANDEM_DATABASE__POOL_SIZE), or a larger max_connections"
        return Finding("connections", "fail" if share >= FULL else "warn", text, remedy, facts)
    if found["idling"]:
        remedy = "somebody forgot to end a transaction: see sql/inspect/horizon.sql"
        text += f"; {found['idling']} idle inside a transaction for more than a minute"
        return Finding("connections", "warn", text, remedy, facts)
    return Finding("connections", "ok", text, facts=facts)
