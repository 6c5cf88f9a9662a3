"""`tandem doctor`: what is wrong, and the way out. The checks are in app/observability/doctor."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.output import FAILED, Json, answer, progress, table
from app.config import CHECKOUT, load_settings

if TYPE_CHECKING:
    from app.observability.doctor.finding import Finding


def register(parent: typer.Typer) -> None:
    """Add this command to the command line."""
    parent.command()(doctor)


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the check that reads every job.")] = False,
    as_json: Json = False,
) -> None:
    """Check server, schema, settings, connections, pooler, NOTIFY, vacuum horizon, leases, sweep, queues, jobs.

    Only reads. Each finding is ok, warn or fail, with the way out. Exit code 1 if one fails, or the database is away.

    Example: tandem doctor --quick --json | jq '.findings[] | select(.verdict != "ok")'
    """
    import asyncio
    from dataclasses import asdict

    from app.database.location import database
    from app.observability.doctor.examination import count_checks, examine
    from app.observability.doctor.finding import worst

    settings = load_settings()
    with database(settings, root=CHECKOUT) as place, progress("checking", count_checks(quick=quick)) as bar:
        findings = asyncio.run(examine(settings, place.url, place.listen_url, quick=quick, on_progress=bar))
    verdict = worst(findings)
    facts = {"ok": verdict != "fail", "verdict": verdict, "findings": [asdict(one) for one in findings]}
    answer(facts, _tell(findings), as_json=as_json)
    if verdict == "fail":
        raise typer.Exit(FAILED)


def _tell(findings: "list[Finding]") -> str:
    rows = []
    for one in findings:
        rows.append({"verdict": one.verdict, "name": one.name, "text": one.text})
        if one.remedy:
            rows.append({"text": f"  way out: {one.remedy}"})
    counts = {kind: sum(one.verdict == kind for one in findings) for kind in ("ok", "warn", "fail")}
    total = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return table({"verdict": "", "name": "check", "text": "finding"}, rows, empty="") + f"\n{total}"
