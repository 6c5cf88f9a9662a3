"""What the demo reports: counted in the database after the fact, never in the program that sent the calls."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from scripts.demo_run import Answers, Course

COUNTS = """
SELECT count(*) FILTER (WHERE status = 'PROCESSED') AS processed, count(*) FILTER (WHERE status = 'FAILED') AS failed,
       count(*) FILTER (WHERE status = 'PENDING') AS pending, count(*) AS stored
FROM conversation_events WHERE conversation_id = ANY (%(names)s)
"""
# A user's score must be the sum of its conversations' changes: one counted twice, or not at all, shows here.
DOUBLE = """
SELECT count(*) AS users FROM (
    SELECT e.user_id, sum(e.friendship_score_change) AS expected
    FROM conversation_events AS e WHERE e.status = 'PROCESSED' AND e.user_id IN (
        SELECT user_id FROM conversation_events WHERE conversation_id = ANY (%(names)s))
    GROUP BY e.user_id
) AS per_user JOIN friendship_status AS f USING (user_id)
WHERE abs(f.friendship_score - per_user.expected) > 0.001
"""
TIMES = """
WITH times AS (
    SELECT extract(epoch FROM d.started_at - j.created_at) * 1000 AS wake,
           extract(epoch FROM e.processed_at - e.created_at) * 1000 AS whole
    FROM conversation_events AS e
    JOIN tandem.done AS d ON d.job_id = e.job_id JOIN tandem.job AS j ON j.id = e.job_id
    WHERE e.conversation_id = ANY (%(names)s)
)
SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY wake) AS wake,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY whole) AS whole
FROM times
"""
RESCUED = """
SELECT count(*) AS rescued FROM tandem.attempt AS a JOIN conversation_events AS e ON e.job_id = a.job_id
WHERE a.verdict = 'RESCUED' AND e.conversation_id = ANY (%(names)s)
"""
STORIES = (
    (
        "The user who came closest",
        """SELECT f.user_id, f.friendship_level AS level, round(f.friendship_score::numeric, 1) AS score,
                  count(*) AS conversations
           FROM friendship_status AS f JOIN conversation_events AS e USING (user_id)
           WHERE e.conversation_id = ANY (%(names)s)
           GROUP BY 1, 2, 3 ORDER BY f.friendship_score DESC LIMIT 1""",
    ),
    (
        "A conversation that survived its worker",
        """SELECT e.conversation_id, s.crashes, e.status, round(e.friendship_score_change::numeric, 1) AS change,
                  date_trunc('milliseconds', e.processed_at - e.created_at) AS took
           FROM conversation_events AS e JOIN tandem.attempt AS a ON a.job_id = e.job_id AND a.verdict = 'RESCUED'
           CROSS JOIN LATERAL (SELECT count(*) AS crashes FROM tandem.attempt AS x WHERE x.job_id = e.job_id) AS s
           WHERE e.conversation_id = ANY (%(names)s) ORDER BY e.processed_at DESC LIMIT 1""",
    ),
    (
        "The quickest from call to outcome",
        """SELECT e.conversation_id, jsonb_array_length(e.conversation_log) AS turns, e.new_friendship_level AS level,
                  round((extract(epoch FROM e.processed_at - e.created_at) * 1000)::numeric, 1) AS took_ms
           FROM conversation_events AS e WHERE e.conversation_id = ANY (%(names)s) AND e.status = 'PROCESSED'
           ORDER BY e.processed_at - e.created_at LIMIT 1""",
    ),
)


def collect(
    connection: psycopg.Connection[Any], answers: "Answers", course: "Course", *, api: str, sent: int
) -> dict[str, Any]:
    """Count everything for this run's conversations."""
    names = {"names": list(answers.first)}
    cursor = connection.cursor(row_factory=dict_row)

    def one(query: str) -> dict[str, Any]:
        return cursor.execute(query, names).fetchone() or {}

    counts, times = one(COUNTS), one(TIMES)
    return {
        "api": api,
        "sent": sent,
        "accepted": len(answers.first),
        "refused": answers.refused,
        "retried_calls": answers.retried,
        "processed": counts["processed"],
        "failed": counts["failed"],
        "pending": counts["pending"],
        "lost": len(answers.first) - counts["processed"] - counts["failed"],
        "double_scored": one(DOUBLE)["users"],
        "repeats": answers.repeats,
        "repeats_same_ids": answers.repeats_same,
        "worker_killed": course.worker_killed,
        "killed_with": course.killed_leases,
        "rescued": one(RESCUED)["rescued"],
        "seconds": round(course.fed_seconds, 2),
        "wake_to_start_ms": _percentiles(times["wake"]),
        "end_to_end_ms": _percentiles(times["whole"]),
        "stories": [(title, one(query)) for title, query in STORIES],
    }


def passed(report: dict[str, Any]) -> bool:
    """Whether everything accepted was processed, exactly once, and every repeat got the same ids."""
    return (
        report["accepted"] == report["processed"] == report["sent"]
        and report["lost"] == report["double_scored"] == 0
        and report["repeats_same_ids"] == report["repeats"]
        and not report["refused"]
    )


def machine(report: dict[str, Any]) -> dict[str, Any]:
    """The report for programs."""
    names = (
        "accepted processed failed lost double_scored repeats_same_ids repeats worker_killed killed_with rescued"
        " retried_calls seconds wake_to_start_ms end_to_end_ms"
    )
    return {name: report[name] for name in names.split()}


def show(report: dict[str, Any], console: Console, *, api: str, logs: Path, keep: bool) -> None:
    """The report for people."""
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("came in", f"{report['accepted']} conversations accepted in {report['seconds']} s")
    table.add_row(
        "came out", f"{report['processed']} processed, {report['failed']} failed, {report['lost']} lost"
    )
    table.add_row(
        "counted twice", f"{report['double_scored']} users (score against the sum of their conversations)"
    )
    table.add_row(
        "repeated calls", f"{report['repeats']}, of which {report['repeats_same_ids']} got the same ids"
    )
    table.add_row(
        "worker killed",
        f"with {report['killed_with']} jobs in its hands; {report['rescued']} tries were rescued",
    )
    for title, key in (("call to start", "wake_to_start_ms"), ("call to outcome", "end_to_end_ms")):
        times = report[key]
        table.add_row(title, f"p50 {times['p50']} ms, p95 {times['p95']} ms, p99 {times['p99']} ms")
    console.print()
    console.print(
        "[green]All accounted for.[/green]" if passed(report) else "[red]Something is missing.[/red]"
    )
    console.print(table)
    for line in report["refused"][:5]:
        console.print(f"  [red]{line}[/red]")
    for title, row in report["stories"]:
        facts = ", ".join(f"{name} {value}" for name, value in row.items()) or "none in this run"
        console.print(f"  [bold]{title}:[/bold] {facts}", soft_wrap=True)
    kept = "now" if keep else "with --keep"
    console.print(
        f"\nLook further, {kept}: {api}/docs and {api}/metrics; logs in .tandem/{logs.name}/", soft_wrap=True
    )
    console.print(
        "By SQL, at any time: scripts/tandem db start; scripts/tandem db psql -f sql/inspect/queue_depth.sql",
        soft_wrap=True,
    )


def _percentiles(values: Any) -> dict[str, float | None]:
    found = values or [None, None, None]
    return {
        name: None if value is None else round(float(value), 2)
        for name, value in zip(("p50", "p95", "p99"), found, strict=True)
    }
