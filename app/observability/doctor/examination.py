"""The whole check-up: every check in order, each by itself, so that one that cannot run hides no other."""

from collections.abc import Callable, Sequence

import psycopg

from app.config import Settings
from app.database.connect import connect
from app.errors import AppError
from app.observability.doctor.finding import Check, Finding, Patient
from app.observability.doctor.limits import check_limits
from app.observability.doctor.secrets import check_secrets
from app.observability.doctor.server import (
    check_connection,
    check_connections,
    check_schema,
    check_server,
    check_settings,
)
from app.observability.doctor.storage import check_dead_rows, check_horizon
from app.observability.doctor.wakeups import check_notify, check_pooler
from app.observability.doctor.work import (
    check_floors,
    check_leases,
    check_membership,
    check_queues,
    check_sweeper,
    check_workers,
)

SERVER: Sequence[Check] = (
    check_connection,
    check_server,
    check_settings,
    check_connections,
    check_pooler,
    check_notify,
)
QUEUE: Sequence[Check] = (
    check_horizon,
    check_dead_rows,
    check_leases,
    check_sweeper,
    check_queues,
    check_workers,
    check_floors,
    check_limits,
    check_secrets,
)
SLOW: Sequence[Check] = (check_membership,)
LONG_CALL_SECONDS = 600.0


def count_checks(*, quick: bool) -> int:
    """How many findings there will be, if the schema fits."""
    return len(SERVER) + 1 + len(QUEUE) + (0 if quick else len(SLOW))


async def examine(
    settings: Settings, url: str, listen_url: str, *, quick: bool, on_progress: Callable[[int], None]
) -> list[Finding]:
    """All findings. Without a connection there is one, without a fitting schema only those of the server."""
    try:
        connection = await connect(
            url, name="doctor", settings=settings.database, call_timeout=LONG_CALL_SECONDS
        )
    except AppError as error:
        remedy = "is the server up, the address right, the network open? tandem db url shows the address"
        return [Finding("connection", "fail", error.message, remedy)]
    async with connection:
        patient = Patient(connection, url, listen_url, settings)
        findings = []
        for check in SERVER:
            findings.append(await _checked(check, patient))
            on_progress(len(findings))
        schema = await _checked(check_schema, patient)
        findings.append(schema)
        if schema.verdict == "ok":
            for check in (*QUEUE, *(() if quick else SLOW)):
                findings.append(await _checked(check, patient))
                on_progress(len(findings))
    return findings


async def _checked(check: Check, patient: Patient) -> Finding:
    name = check.__name__.removeprefix("check_").replace("_", "-")
    try:
        return await check(patient)
    except (psycopg.Error, AppError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Finding(
            name, "fail", f"cannot be checked: {said}", "see the error; a role's rights, a lost connection"
        )
