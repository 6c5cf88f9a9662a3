-- Makes a job of a schedule now, beside its ticks. No row: there is no such schedule.
SELECT e.job_id FROM tandem.schedule AS s
CROSS JOIN LATERAL tandem.enqueue_jobs(
    ARRAY[s.kind], ARRAY[s.payload], ARRAY[s.queue], ARRAY[s.priority], NULL, ARRAY[s.partition_key], NULL, NULL,
    ARRAY[jsonb_build_object('schedule', s.name)]) AS e
WHERE s.name = %(name)s
