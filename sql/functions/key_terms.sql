-- tandem.key_terms(queue, key's row or NULL, key): how many jobs of a key may run at once and how often one may start
-- (NULL: as many, as often as you like), and its weight. Internal to admission, and plain enough to be inlined there.
-- Jobs without a key have no terms of a key.
CREATE OR REPLACE FUNCTION tandem.key_terms(q tandem.queue, k tandem.key, partition_key text)
RETURNS TABLE (most integer, every interval, burst integer, weight double precision)
LANGUAGE sql STABLE
AS $$
SELECT CASE WHEN partition_key <> '' THEN least(coalesce(k.max_running, q.key_max_running), CASE WHEN q.ordered THEN 1 END) END,
       CASE WHEN partition_key <> '' THEN interval '1 s' / coalesce(k.rate, q.key_rate) END,
       coalesce(k.burst, q.key_burst), coalesce(k.weight, 1.0)
$$;
