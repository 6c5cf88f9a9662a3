-- Which conversation events are still PENDING although no living job works for them? Should answer no row; at most 200.
-- due: since when the fallback may mend the event; negative: it waits until then. job_id: the job it was given.
-- problem: "no job" was never enqueued, lost, or dropped; "job ... but event PENDING" is a job that came to an end and
-- did not take its event along.
-- What to do: the sweep enqueues such events again once they are due (100 at a time). Rows that stay for more than some
-- minutes: nobody sweeps (workers.sql), or the repair fails: run `tandem sweep --once` and read the step's error.
WITH clock AS MATERIALIZED (
    SELECT tandem.clock() AS at
)
SELECT e.id AS event_id, e.conversation_id, date_trunc('second', c.at - e.next_attempt_at) AS due, e.attempt_count,
       e.job_id, CASE WHEN d.outcome IS NULL THEN 'no job' ELSE 'job ' || d.outcome || ' but event PENDING' END AS problem
FROM public.conversation_events AS e CROSS JOIN clock AS c
LEFT JOIN tandem.done AS d ON d.job_id = e.job_id
WHERE e.status = 'PENDING'
  AND NOT EXISTS (SELECT FROM tandem.ready AS r WHERE r.job_id = e.job_id)
  AND NOT EXISTS (SELECT FROM tandem.lease AS l WHERE l.job_id = e.job_id)
  AND NOT EXISTS (SELECT FROM tandem.scheduled AS s WHERE s.job_id = e.job_id)
  AND NOT EXISTS (SELECT FROM tandem.blocked AS b WHERE b.job_id = e.job_id)
ORDER BY e.next_attempt_at LIMIT 200;
