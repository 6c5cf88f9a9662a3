"""The managed queues of a chaos run, and an observer that notes every lease of theirs as it begins and ends.

It writes in the very transaction that makes or deletes the lease, at its commit: a note and its lease are both there
or both not, whatever crashes. Admission holds its locks until then, so the notes are in the true order.
"""

from typing import Any

import psycopg

from scripts.chaos_rig.admission import Limits, Tenure

ORDERED, LIMITED = "chaos-ordered", "chaos-limited"
LIMITS = Limits(
    ordered=frozenset({ORDERED}),
    of_all=6,
    of_queue={LIMITED: 4},
    of_kind={"chaos.limited": 3},
    of_key={LIMITED: 2},
)
_MAKE = """
CREATE TABLE chaos.tenure (
    seq           bigint GENERATED ALWAYS AS IDENTITY,
    begins        boolean NOT NULL,
    job_id        bigint  NOT NULL,
    token         bigint  NOT NULL,
    queue         text    NOT NULL,
    partition_key text,
    kind          text    NOT NULL,
    exempt        boolean NOT NULL
);
CREATE FUNCTION chaos.note_tenure() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE l tandem.lease := CASE WHEN TG_OP = 'INSERT' THEN NEW ELSE OLD END;
BEGIN
    INSERT INTO chaos.tenure (begins, job_id, token, queue, partition_key, kind, exempt)
    VALUES (TG_OP = 'INSERT', l.job_id, l.token, l.queue, l.partition_key, coalesce(l.kind, ''),
            coalesce(l.exempt, false));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tenure_begins AFTER INSERT ON tandem.lease DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.slot IS NOT NULL) EXECUTE FUNCTION chaos.note_tenure();
CREATE CONSTRAINT TRIGGER tenure_ends AFTER DELETE ON tandem.lease DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.slot IS NOT NULL) EXECUTE FUNCTION chaos.note_tenure();
"""
_READ = "SELECT begins, job_id, token, queue, partition_key, kind, exempt FROM chaos.tenure ORDER BY seq"


def make(connection: psycopg.Connection[Any]) -> None:
    """The observer, and the managed queues with their limits. The schema `chaos` is there already."""
    connection.execute(_MAKE)
    connection.execute("SELECT tandem.manage_queue(%s, ordered => true, dead_head => 'block')", (ORDERED,))
    connection.execute("SELECT tandem.manage_queue(%s, key_limit => %s)", (LIMITED, LIMITS.of_key[LIMITED]))
    targets = {f"queue:{name}": most for name, most in LIMITS.of_queue.items()}
    targets |= {f"kind:{name}": most for name, most in LIMITS.of_kind.items()}
    for target, most in (targets | {"global": LIMITS.of_all}).items():
        connection.execute("SELECT tandem.set_limit(%s, max_running => %s)", (target, most))


def read_tenures(connection: psycopg.Connection[Any]) -> list[Tenure]:
    """What was noted, in its order."""
    return [Tenure(*row) for row in connection.execute(_READ)]
