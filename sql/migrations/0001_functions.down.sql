-- Removes the queue's functions.
DROP FUNCTION IF EXISTS tandem.drop_partition CASCADE;
DROP FUNCTION IF EXISTS tandem.partition_survivors CASCADE;
DROP FUNCTION IF EXISTS tandem.add_partition CASCADE;
DROP FUNCTION IF EXISTS tandem.enqueue_copied CASCADE;
DROP FUNCTION IF EXISTS tandem.begin_copy CASCADE;
DROP FUNCTION IF EXISTS tandem.check_copy CASCADE;
DROP FUNCTION IF EXISTS tandem.enqueue CASCADE;
DROP FUNCTION IF EXISTS tandem.enqueue_jobs CASCADE;
DROP FUNCTION IF EXISTS tandem.enqueue_unique CASCADE;
DROP FUNCTION IF EXISTS tandem.insert_jobs CASCADE;
DROP FUNCTION IF EXISTS tandem.holds_unique_key CASCADE;
DROP FUNCTION IF EXISTS tandem.wake_requested CASCADE;
DROP FUNCTION IF EXISTS tandem.wake_at_commit CASCADE;
DROP FUNCTION IF EXISTS tandem.wake CASCADE;
DROP FUNCTION IF EXISTS tandem.wake_lane CASCADE;
DROP FUNCTION IF EXISTS tandem.clock CASCADE;
