"""The effect ledger, and all that a run's end is judged by: read with plain SQL, around every proxy.

The ledger has no unique key on purpose: a key would turn a second effect into an error, and hide it.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg

from scripts.chaos_rig import observer
from scripts.chaos_rig.history import Effect, Event, Facts, Friendship, JobFact

MAKE = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.effect (
    seq     bigint GENERATED ALWAYS AS IDENTITY,
    op      text        NOT NULL,
    job_id  bigint      NOT NULL,
    attempt integer     NOT NULL,
    token   bigint      NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
WRITE = "INSERT INTO chaos.effect (op, job_id, attempt, token) VALUES (%s, %s, %s, %s)"

_JOBS = """
WITH place AS (
    SELECT job_id, 'ready' AS name FROM tandem.ready
    UNION ALL SELECT job_id, 'scheduled' FROM tandem.scheduled
    UNION ALL SELECT job_id, 'blocked' FROM tandem.blocked
    UNION ALL SELECT job_id, 'lease' FROM tandem.lease
    UNION ALL SELECT job_id, 'done' FROM tandem.done
)
SELECT coalesce(j.id, p.job_id), j.id IS NOT NULL, coalesce(j.payload ->> 'op', e.conversation_id, 'job of nothing'),
       coalesce(array_agg(p.name ORDER BY p.name) FILTER (WHERE p.name IS NOT NULL), '{}'),
       min(d.outcome), min(d.token), min(d.error_class)
FROM tandem.job AS j FULL JOIN place AS p ON p.job_id = j.id
LEFT JOIN tandem.done AS d ON d.job_id = j.id
LEFT JOIN public.conversation_events AS e ON e.id = j.event_id
-- What other applications enqueue by themselves (topics, schedules) is no op of the journal; it only has to end.
WHERE j.id IS NULL OR j.kind LIKE 'chaos.%' OR j.kind = 'process_conversation_event'
GROUP BY 1, 2, 3 ORDER BY 1
"""
_EFFECTS = "SELECT op, job_id, token, extract(epoch FROM at)::float8 FROM chaos.effect ORDER BY seq"
_EVENTS = """
SELECT conversation_id, id::text, user_id, status, job_id, friendship_score_change FROM public.conversation_events
"""
_FRIENDSHIPS = "SELECT user_id, conversations, friendship_score FROM public.friendship_status"
_RETRIES = """
SELECT job_id, array_agg(attempt ORDER BY finished_at) FROM tandem.attempt AS a WHERE verdict = 'RETRY'
AND NOT EXISTS (SELECT FROM tandem.attempt AS d WHERE d.job_id = a.job_id AND d.verdict = 'DEAD')  -- they start anew
GROUP BY job_id
"""
_DEATHS = "SELECT job_id, count(*) FROM tandem.attempt WHERE verdict = 'DEAD' GROUP BY job_id"
_DEAD = """
SELECT d.job_id, d.finished_at, j.payload ->> 'op' FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
WHERE d.outcome = 'DEAD' AND j.payload ? 'dies' ORDER BY d.finished_at LIMIT 50
"""
_ENDED = """
SELECT d.job_id, d.token FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
WHERE d.outcome = 'SUCCEEDED' AND j.kind <> 'chaos.plain'
  AND (j.kind LIKE 'chaos.%' OR j.kind = 'process_conversation_event')
  AND d.finished_at > clock_timestamp() - interval '30 s'
"""
_OPEN = """
SELECT (SELECT count(*) FROM tandem.job) - (SELECT count(*) FROM tandem.done)
           + (SELECT count(*) FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
              WHERE d.outcome = 'DEAD' AND j.payload ? 'dies'),
       (SELECT count(*) FROM public.conversation_events WHERE status = 'PENDING'),
       (SELECT count(*) FROM tandem.done), (SELECT count(*) FROM tandem.attempt WHERE verdict = 'RESCUED')
"""

Connection = psycopg.Connection[Any]


def read_facts(connection: Connection, seen_ended: dict[int, int]) -> Facts:
    """Everything the checker needs, in one snapshot."""
    facts = Facts(seen_ended=seen_ended)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for number, exists, op, places, outcome, token, error in connection.execute(_JOBS):
            if exists:
                facts.jobs.append(JobFact(number, op, tuple(places), outcome, token, error))
            else:
                facts.orphans.append(f"{', '.join(places)} of job {number}")
        facts.effects = [Effect(*row) for row in connection.execute(_EFFECTS)]
        for op, event_id, user, status, job_id, change in connection.execute(_EVENTS):
            facts.events.append(Event(op, event_id, user, status, job_id, change))
        for user, conversations, score in connection.execute(_FRIENDSHIPS):
            facts.friendships[user] = Friendship(conversations, Decimal(score))
        facts.deaths = dict(connection.execute(_DEATHS).fetchall())
        facts.tenures, facts.limits = observer.read_tenures(connection), observer.LIMITS
        facts.retries = dict(connection.execute(_RETRIES).fetchall())
    return facts


def read_ended(connection: Connection) -> dict[int, int]:
    """Token by job of exactly-once jobs that ended within the last half minute."""
    return dict(connection.execute(_ENDED).fetchall())


def read_dead(connection: Connection) -> list[tuple[int, datetime, str]]:
    """(job, when it died, op) of dead letters that wait for their redrive, the oldest first."""
    return connection.execute(_DEAD).fetchall()


def read_open(connection: Connection) -> tuple[int, int, int, int]:
    """(jobs that have not ended or wait for a redrive, events PENDING, jobs ended, rescues so far)."""
    row = connection.execute(_OPEN).fetchone()
    unended, pending, ended, rescues = row or (0, 0, 0, 0)
    return unended, pending, ended, rescues
