"""Whether a pooler stands in between, and whether notifications arrive: what the quick wake-up of workers needs."""

import secrets
from dataclasses import dataclass
from statistics import median
from time import monotonic

from psycopg import sql

from app.database.connect import connect, is_pooled
from app.database.deadline import BoundedAsyncConnection
from app.observability.doctor.finding import Finding, Patient, Verdict
from app.queue.wake import STEADY

ROUNDS = 5
PATIENCE_SECONDS = 2.0
SLOW_MS = 100.0
DIRECT = "DATABASE_LISTEN_URL=<a direct address>, or `tandem worker --mode poll`"


@dataclass(frozen=True, slots=True)
class Pids:
    """The server process of one client connection: as it was told at the start, and as it is seen twice later."""

    told: int
    first: int
    second: int

    @property
    def pooler(self) -> str | None:
        """ "transaction" when statements move between server processes, "session" when only the start was changed."""
        if self.first != self.second:
            return "transaction"
        return "session" if self.told != self.first else None


async def look_for_pooler(patient: Patient, url: str) -> Pids:
    """Ask twice, and in between let another client take the server process that the first one used."""
    options = {"name": "doctor", "settings": patient.settings.database}
    async with await connect(url, **options) as one, await connect(url, **options) as two:  # type: ignore[arg-type]
        first = await _pid(one)
        async with two.transaction():
            await _pid(two)
            second = await _pid(one)
        return Pids(one.info.backend_pid, first, second)


async def check_pooler(patient: Patient) -> Finding:
    """A transaction pooler is fine for everything but LISTEN, which then needs an address of its own."""
    pids = await look_for_pooler(patient, patient.url)
    kind = pids.pooler
    facts = {"pooler": kind, "listen_url_differs": patient.listen_url != patient.url}
    if kind is None:
        return Finding("pooler", "ok", "none: connections reach the server directly", facts=facts)
    text = f"a pooler in {kind} mode stands before the server"
    if kind == "session":
        return Finding("pooler", "ok", text, facts=facts)
    if patient.listen_url == patient.url and patient.settings.worker.mode != "poll":
        text = f"{text}, and LISTEN would go through it: idle workers look every {STEADY:g} s"
        return Finding("pooler", "warn", text, DIRECT, facts)
    return Finding("pooler", "ok", f"{text}; LISTEN goes another way", facts=facts)


async def check_notify(patient: Patient) -> Finding:
    """A notification of one session reaches another one, and how long it takes."""
    name = f"tandem_doctor_{secrets.token_hex(6)}"
    async with await connect(
        patient.listen_url, name="doctor", settings=patient.settings.database
    ) as listener:
        if is_pooled(listener):  # LISTEN would stay with a server process that other clients get next
            verdict: Verdict = "ok" if patient.settings.worker.mode == "poll" else "warn"
            return Finding(
                "notify", verdict, "not tried: the address for LISTEN leads through a pooler", DIRECT
            )
        await listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))
        heard: list[float] = []
        for _ in range(ROUNDS):
            took = await _round_trip(patient.connection, listener, name)
            if took is None:
                break
            heard.append(took)
    facts = {"heard": len(heard), "round_trip_ms": round(median(heard), 3) if heard else None}
    if len(heard) < ROUNDS:
        text = f"a notification did not arrive within {PATIENCE_SECONDS:g} s"
        if patient.settings.worker.mode == "poll":
            return Finding("notify", "ok", f"{text}; workers poll", facts=facts)
        return Finding("notify", "fail", f"{text}: idle workers only poll", DIRECT, facts)
    text = f"a notification takes {median(heard):.2f} ms"
    if median(heard) > SLOW_MS:
        remedy = "the server is busy or far away: look at its load, and at sql/inspect/sleepers.sql"
        return Finding("notify", "warn", text, remedy, facts)
    return Finding("notify", "ok", text, facts=facts)


async def _round_trip(
    sender: BoundedAsyncConnection, listener: BoundedAsyncConnection, channel: str
) -> float | None:
    started = monotonic()
    await sender.execute("SELECT pg_notify(%s, '')", (channel,))
    async for _ in listener.notifies(timeout=PATIENCE_SECONDS, stop_after=1):
        return (monotonic() - started) * 1000
    return None


async def _pid(connection: BoundedAsyncConnection) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()", prepare=False)).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM answers one row
    return int(row[0])
