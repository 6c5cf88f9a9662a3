-- Removes the queue with everything in it. The schema itself stays: Alembic keeps its version table there.
DROP VIEW tandem.job_status;
DROP TABLE tandem.job, tandem.done, tandem.attempt, tandem.ready, tandem.lease, tandem.scheduled, tandem.blocked,
    tandem.unique_key, tandem.key, tandem.cancel_intent, tandem.queue, tandem.kind, tandem.worker, tandem.leader,
    tandem.schedule, tandem.lane_floor, tandem.wake_request CASCADE;
DROP SEQUENCE tandem.job_id, tandem.ready_position;
