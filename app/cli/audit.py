"""`tandem audit`: seal, verify and report the audit log. What happens is in app/domains/topics/audit.py."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from app.cli.connected import ask
from app.cli.output import FAILED, Json, answer, show, show_duration, table
from app.cli.values import parse_age

app = typer.Typer(no_args_is_help=True, help="The audit log: verify, report, seal.")
REPORT = {
    "action": "action",
    "topic": "topic",
    "group_name": "group",
    "actor": "by",
    "entries": "entries",
    "items": "messages",
    "first": "first",
    "last": "last",
}


def register(parent: typer.Typer) -> None:
    """Add this group to the command line."""
    parent.add_typer(app, name="audit")


@app.command()
def verify(as_json: Json = False) -> None:
    """Walk the chain and compare it with the signed heads outside; names the first bad entry, exit code 1.

    Example: tandem audit verify
    """
    from dataclasses import asdict

    from app.config import load_settings
    from app.domains.topics import audit

    folder = load_settings().topics.audit_folder
    found = ask(lambda connection: audit.verify(connection, folder))
    good = f"{found.sealed} entries are as they were sealed, {found.heads} signed heads agree"
    place = f"seq {found.bad_seq}, entry {found.bad_entry}" if found.bad_entry else f"seq {found.bad_seq}"
    answer(asdict(found), good if found.good else f"{place}: {found.reason}", as_json=as_json)
    if not found.good:
        raise typer.Exit(FAILED)


@app.command()
def seal(as_json: Json = False) -> None:
    """Seal what has been settled since the last batch, as the sweeper does each second.

    Example: tandem audit seal
    """
    from app.config import load_settings
    from app.domains.topics import audit

    folder = load_settings().topics.audit_folder
    sealed = ask(lambda connection: audit.seal(connection, folder))
    answer({"sealed": sealed}, f"{sealed} entries sealed; heads are in {folder}", as_json=as_json)


@app.command()
def report(
    age: Annotated[str, typer.Option(help="How far back, like 30d.")] = "30d", as_json: Json = False
) -> None:
    """The compliance report: who published, consumed, replayed, redrove, granted and was denied; retention per topic.

    Example: tandem audit report --age 90d
    """
    from app.domains.topics import repository

    until = datetime.now(UTC)
    since = until - parse_age(age)

    async def look(connection: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        counts = await repository.count_audit(connection, since=since, until=until)
        return counts, await repository.list_topics(connection)

    counts, topics = ask(look)
    shown = [row | {"first": show(row["first_at"]), "last": show(row["last_at"])} for row in counts]
    kept = [
        f"{one['topic']}: kept {show_duration(one['retention'].total_seconds())}, positions {one['oldest']} to"
        f" {one['newest']}, {one['lost']} dropped unread"
        for one in topics
    ]
    text = table(REPORT, shown, empty="nothing in this time") + "\n\nRetention\n" + "\n".join(kept)
    facts = {"since": since, "until": until, "actions": counts, "topics": topics}
    answer(facts, text, as_json=as_json)
