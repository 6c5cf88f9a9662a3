-- tandem.explain(job): why a job does not run, or how it ended: a row per reason, the one that matters most first.
-- Answers at least one row for any id. `reason` is stable, for programs; `since` and `until` where they are known.
CREATE OR REPLACE FUNCTION tandem.explain(job bigint)
RETURNS TABLE (reason text, explanation text, since timestamptz, until timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT r.reason, r.explanation, r.since, r.until
FROM tandem.job_circumstances($1) AS c
CROSS JOIN LATERAL (SELECT c.place IN ('ready', 'scheduled', 'blocked', 'dependent') AS waits, c.place = 'lease' AS runs,
                           c.until <= c.at AS over, coalesce('worker ' || c.worker, 'a worker') AS who,
                           (SELECT j.policy ->> 'start_by' FROM tandem.job AS j WHERE j.id = $1)::timestamptz AS start_by) AS n
CROSS JOIN LATERAL (VALUES
    (1, c.place IS NULL AND c.kind IS NULL, 'unknown-job',
     'there is no such job: never enqueued, rolled back, purged, or dropped by retention', NULL, NULL),
    (2, c.place IS NULL AND c.kind IS NOT NULL, 'lost',
     'it stands in no place, which is a bug: see sql/inspect/membership.sql', c.created_at, NULL),
    (3, c.place = 'succeeded', 'succeeded', format('%s ended it at try %s', n.who, c.attempt), c.since, NULL),
    (4, c.place = 'dead', 'dead', format('a dead letter after try %s: %s', c.attempt, c.detail), c.since, NULL),
    (5, c.place = 'cancelled', 'cancelled', concat_ws(': ', 'it was cancelled', c.detail), c.since, NULL),
    (6, (n.waits OR n.runs) AND c.cancel_at IS NOT NULL, 'cancel-asked',
     format('%s asked for its cancel%s; %s', coalesce(c.cancel_by, 'somebody'), ' (' || c.cancel_why || ')',
            CASE WHEN n.runs THEN 'its worker ends it at the next heartbeat' ELSE 'the next claim or sweep ends it' END),
     c.cancel_at, NULL),
    (7, n.runs AND n.over, 'lease-overdue', format('%s holds it and has not extended its lease; a sweep%s takes it back',
     n.who, CASE WHEN c.hooked THEN ' that knows the kind ' || c.kind END), c.until, NULL),
    (8, n.runs AND NOT n.over AND c.suspect AND NOT c.alone, 'suspect-waits',
     format('its worker died in an earlier try: in %s it waits until it can run alone', n.who), c.since, c.until),
    (9, n.runs AND NOT n.over AND NOT (c.suspect AND NOT c.alone), 'running',
     format('%s runs its try %s%s, or is about to', n.who, c.attempt, CASE WHEN c.alone THEN ' alone' END), c.since, c.until),
    (10, c.place = 'blocked', 'blocked-' || c.detail,
     concat_ws(': ', format('it waits for its %s%s', c.detail, ' (partition key ' || nullif(c.partition_key, '') || ')'), tandem.why_blocked($1)),
     c.since, NULL),
    (10, c.place = 'dependent', 'blocked-job', 'it waits for ' || c.detail, c.since, NULL),
    (11, c.place = 'scheduled' AND NOT n.over, 'not-due',
     CASE WHEN c.attempt > 0 AND c.failure <> '' THEN format('the last try failed (%s); the next one', c.failure) ELSE 'it' END
     || ' is not due yet', coalesce(c.failed_at, c.created_at), c.until),
    (12, c.place = 'scheduled' AND n.over, 'due', 'it is due: a sweep makes it ready', c.until, NULL),
    (13, c.place IN ('scheduled', 'lease') AND n.over AND NOT c.swept, 'no-sweeper', 'nobody sweeps: start a worker', NULL, NULL),
    (14, n.waits AND c.paused_at IS NOT NULL, 'queue-paused',
     format('queue %s is paused by %s', c.queue, coalesce(c.paused_by, 'somebody')), c.paused_at, NULL),
    (15, n.waits AND NOT c.declared, 'kind-unknown', format('no worker has ever declared the kind %s', c.kind), c.created_at, NULL),
    (16, n.waits AND c.slots IS NULL, 'no-worker', format('no live worker serves queue %s', c.queue), c.seen_at, NULL),
    (17, n.waits AND c.suspect, 'suspect', 'its worker died in an earlier try: it runs alone next', c.failed_at, NULL),
    (18, c.place = 'ready', 'waiting', format('%s jobs of queue %s come first; its workers hold %s jobs and have %s slots',
     c.ahead || CASE WHEN c.ahead >= 1000 THEN ' or more' ELSE '' END, c.queue, c.held, coalesce(c.slots, 0)), c.since, NULL),
    (19, n.waits AND c.attempt = 0 AND n.start_by IS NOT NULL, 'start-deadline',
     'it ends as a dead letter (expired) unless its first try has started by then', NULL, n.start_by)
) AS r(rank, holds, reason, explanation, since, until)
WHERE r.holds ORDER BY r.rank
$$;
