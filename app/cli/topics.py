"""`tandem topics`: make, publish, consume, look, replay, verify. What happens is in app/domains/topics."""

import json
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import typer

from app.cli.connected import act, ask, operator
from app.cli.output import FAILED, Json, answer, show, show_duration, table
from app.cli.values import parse_age

app = typer.Typer(no_args_is_help=True, help="Topics: make, publish, consume, groups, lag, replay, verify.")

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's name.")]
Group = Annotated[str, typer.Argument(metavar="GROUP", help="The consumer group's name.")]
DeadHead = Literal["skip", "block"]
Start = Annotated[
    str, typer.Option("--from", help="beginning, now, a position, or a time (ISO 8601 with zone).")
]
TOPICS = {
    "topic": "topic",
    "groups": "groups",
    "oldest": "oldest",
    "newest": "newest",
    "kept": "kept for",
    "lost": "lost unread",
}
GROUPS = {
    "topic": "topic",
    "group_name": "group",
    "lag": "lag",
    "waits": "oldest waits",
    "running": "running",
    "scheduled": "retrying",
    "dead": "dead",
    "consumers": "consumers",
    "fills": "fills",
    "paused": "paused",
}
CHECKS = {
    "topic": "topic",
    "group": "group",
    "published": "published",
    "acknowledged": "acknowledged",
    "waiting": "waiting",
    "dead": "dead",
    "skipped": "skipped",
    "filling": "filling",
    "missing": "missing",
}


def register(parent: typer.Typer) -> None:
    """Add this group to the command line."""
    parent.add_typer(app, name="topics")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List topics with their groups, positions and retention.

    Example: tandem topics list
    """
    from app.domains.topics import repository

    rows = ask(repository.list_topics)
    shown = [row | {"kept": show_duration(row["retention"].total_seconds())} for row in rows]
    answer({"topics": rows}, table(TOPICS, shown, empty="no topics yet"), as_json=as_json)


@app.command()
def create(
    topic: Topic,
    group: Annotated[
        list[str] | None, typer.Option(help="A consumer group to make; may be repeated.")
    ] = None,
    start: Start = "now",
    retention: Annotated[str, typer.Option(help="How long messages are kept, like 7d.")] = "7d",
    drop_unread: Annotated[
        bool, typer.Option(help="Let retention drop what a group has not read; it is counted.")
    ] = False,
    encrypted: Annotated[bool, typer.Option(help="Take encrypted payloads only.")] = False,
    ordered: Annotated[bool, typer.Option(help="The groups ask for order per key.")] = False,
    dead_head: Annotated[
        DeadHead, typer.Option(help="With --ordered: a dead letter is passed over or stops its key.")
    ] = "skip",
    backoff: Annotated[str, typer.Option(help="exponential or linear.")] = "exponential",
    as_json: Json = False,
) -> None:
    """Make a topic and groups; what is there stays as it is.

    Example: tandem topics create camera.events --group ai-consumer-group
    """
    from app.domains.topics import service

    age = parse_age(retention)
    rules = {"drop_unread": drop_unread, "encrypted": encrypted, "retention": age.total_seconds()}
    if backoff not in ("exponential", "linear"):
        raise typer.BadParameter("backoff is exponential or linear")

    async def make(connection: Any) -> None:
        await service.create_topic(connection, topic, actor=operator(), **rules)
        for name in group or []:
            await service.create_group(
                connection,
                topic,
                name,
                _where(start),
                actor=operator(),
                ordered=ordered,
                dead_head=dead_head,
                backoff=backoff,
            )

    ask(make)
    names = ", ".join(group or []) or "no group"
    answer({"topic": topic, "groups": group or []}, f"{topic} is there, with {names}", as_json=as_json)


@app.command()
def publish(
    topic: Topic,
    message: Annotated[str, typer.Argument(help="The message as JSON.")],
    key: Annotated[str | None, typer.Option(help="The partition key.")] = None,
    dedup_key: Annotated[str | None, typer.Option(help="Published once per window under this key.")] = None,
    as_json: Json = False,
) -> None:
    """Publish one message.

    Example: tandem topics publish camera.events '{"camera": "gate-1"}' --key gate-1
    """
    from app.client.message import Message
    from app.config import load_settings
    from app.domains.topics import service
    from app.domains.topics.tracing import message_headers
    from app.queue.sealing import load_keyring

    try:
        body = json.loads(message)
    except ValueError:
        raise typer.BadParameter("the message is not JSON") from None
    keys = load_settings().topics
    sealed = load_keyring(keys.key_file, keys.keys).seal(topic, body, dedup_key)
    one = Message(sealed, key, message_headers({}), None, dedup_key)
    [made] = ask(lambda connection: service.publish(connection, topic, [one], actor=operator()))
    facts = {"message_id": str(made.message_id), "position": made.position, "created": made.created}
    answer(facts, f"{made.message_id} at position {made.position}", as_json=as_json)


@app.command()
def consume(
    topic: Topic,
    group: Group,
    most: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 10,
    keep: Annotated[bool, typer.Option(help="Do not acknowledge: they come again after 30 s.")] = False,
) -> None:
    """Take messages, print them as JSON lines, and acknowledge them once they are printed.

    Example: tandem topics consume camera.events ai-consumer-group --most 5
    """
    from app.domains.topics import consuming, service

    async def take(connection: Any) -> None:
        found = await consuming.find_group(connection, topic, group)
        lease = timedelta(seconds=30)
        messages = await service.consume(
            connection, found, most=most, lease=lease, consumer="cli", actor=operator()
        )
        for one in messages:
            typer.echo(json.dumps(one.envelope | {"payload": one.body, "attempt": one.job.attempt}))
        if messages and not keep:
            receipts = [one.receipt for one in messages]
            await service.acknowledge(connection, found, receipts, actor=operator())

    ask(take)


@app.command()
def groups(
    topic: Annotated[str | None, typer.Argument(metavar="[TOPIC]", help="Only this topic's.")] = None,
    as_json: Json = False,
) -> None:
    """List groups with their lag, dead letters and consumers. `tandem topics lag` is the same.

    Example: tandem topics groups camera.events
    """
    from app.domains.topics import repository

    rows = ask(lambda connection: repository.list_groups(connection, topic=topic))
    shown = [
        row
        | {
            "waits": show_duration(row["lag_seconds"]) if row["ready"] else "",
            "paused": show(row["paused_at"]),
        }
        for row in rows
    ]
    answer({"groups": rows}, table(GROUPS, shown, empty="no groups yet"), as_json=as_json)


app.command("lag", help="The same as `tandem topics groups`.\n\nExample: tandem topics lag")(groups)


@app.command()
def order(
    topic: Topic,
    group: Group,
    dead_head: Annotated[
        DeadHead, typer.Option(help="A dead letter is passed over (skip) or stops its key (block).")
    ] = "skip",
    off: Annotated[bool, typer.Option("--off", help="No order per key any more.")] = False,
    as_json: Json = False,
) -> None:
    """Let a group get the messages of a key one at a time and in order.

    Example: tandem topics order camera.events ai-consumer-group --dead-head block
    """
    from app.domains.topics import consuming, service

    async def change(connection: Any) -> None:
        found = await consuming.find_group(connection, topic, group)
        await service.order(connection, found, actor=operator(), ordered=not off, dead_head=dead_head)

    ask(change)
    facts = {"topic": topic, "group": group, "ordered": not off, "dead_head": None if off else dead_head}
    answer(facts, f"{group} has {'no order' if off else 'order per key'} now", as_json=as_json)


@app.command()
def replay(
    topic: Topic,
    group: Group,
    start: Start = "beginning",
    until: Annotated[int | None, typer.Option(help="The last position; now, unless told otherwise.")] = None,
    drop_waiting: Annotated[bool, typer.Option(help="Drop what waits first, like moving an offset.")] = False,
    as_json: Json = False,
) -> None:
    """Deliver again to one group, others are left alone; the sweeper carries it out.

    Example: tandem topics replay camera.events ai-consumer-group --from 2026-11-01T00:00:00Z
    """
    from app.domains.topics import consuming, service

    where = _where(start)

    async def ask_for(connection: Any) -> dict[str, Any]:
        found = await consuming.find_group(connection, topic, group)
        return await service.replay(
            connection, found, where, last=until, keep_waiting=not drop_waiting, actor=operator()
        )

    made = ask(ask_for)
    said = f"fill {made['fill']}: positions {made['from_position']} to {made['to_position']}"
    answer(made, f"{said}; {made['skipped']} waiting deliveries were dropped", as_json=as_json)


@app.command("retry-dead")
def retry_dead(
    topic: Topic,
    group: Annotated[str | None, typer.Option(help="Only this group's.")] = None,
    most: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000,
    as_json: Json = False,
) -> None:
    """Send dead letters out again, the oldest first, 500 a second. Topic `dlq` means every topic.

    Example: tandem topics retry-dead camera.events --most 100
    """
    from app.domains.topics import service

    retried, errors = act(
        lambda connection, registry: service.retry_dead(
            connection, registry, topic, group=group, most=most, actor=operator()
        )
    )
    answer({"retried": retried, "errors": errors}, f"{retried} retried, {errors} errors", as_json=as_json)


@app.command()
def verify(
    topic: Annotated[str | None, typer.Argument(metavar="[TOPIC]", help="Only this topic.")] = None,
    as_json: Json = False,
) -> None:
    """Reconcile every group: published = acknowledged + waiting + dead (+ skipped by a seek); exit code 1 if not.

    Example: tandem topics verify
    """
    from app.domains.topics import repository

    async def check(connection: Any) -> list[dict[str, Any]]:
        found = await repository.list_groups(connection, topic=topic)
        return [
            {"topic": one["topic"], "group": one["group_name"]}
            | await repository.verify_group(connection, one["topic"], one["group_name"])
            for one in found
        ]

    rows = ask(check)
    answer({"groups": rows}, table(CHECKS, rows, empty="no groups yet"), as_json=as_json)
    if any(row["missing"] for row in rows):
        raise typer.Exit(FAILED)


@app.command()
def grant(
    principal: Annotated[str, typer.Argument(help="The subject of a key or a token.")],
    operation: Annotated[str, typer.Argument(help="publish or consume.")],
    topic: Annotated[str, typer.Argument(help="A topic, or '*' for every one.")],
    revoke: Annotated[bool, typer.Option(help="Take the grant back.")] = False,
    as_json: Json = False,
) -> None:
    """Let a program publish to a topic or consume from it; its role must allow that, too.

    Example: tandem topics grant camera-7 publish camera.events
    """
    from app.domains.topics import service

    if operation not in ("publish", "consume"):
        raise typer.BadParameter("operation is publish or consume")
    ask(
        lambda connection: service.grant(
            connection, principal, operation, topic, actor=operator(), revoke=revoke
        )
    )
    did = "may no longer" if revoke else "may"
    facts = {"principal": principal, "operation": operation, "topic": topic, "revoked": revoke}
    answer(facts, f"{principal} {did} {operation} {topic}", as_json=as_json)


def _where(text: str) -> Any:
    from app.domains.topics.schemas import Where

    if text in ("beginning", "now"):
        return Where(at="beginning" if text == "beginning" else "now")
    if text.isdecimal():
        return Where(position=int(text))
    try:
        return Where(time=datetime.fromisoformat(text))
    except ValueError:
        raise typer.BadParameter(
            "write beginning, now, a position, or a time like 2026-11-01T00:00:00Z"
        ) from None
