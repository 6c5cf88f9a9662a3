-- tandem.set_limit(target, ...): sets a limit; what is NULL stays as it is. In effect with the next admission: a lowered limit
-- drains, it ends nothing. Targets: `global` and `kind:NAME` (max_running), `queue:NAME` (max_running), `key:QUEUE/KEY` (all;
-- rate is starts per second, burst how many of them at once; exempt: from the global limit). Limits act in managed queues.
CREATE OR REPLACE FUNCTION tandem.set_limit(
    target text, max_running integer DEFAULT NULL, weight double precision DEFAULT NULL, rate double precision DEFAULT NULL,
    burst integer DEFAULT NULL, exempt boolean DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    what text := split_part(target, ':', 1);
    name text := substr(target, strpos(target || ':', ':') + 1);
    queue_name text := split_part(name, '/', 1);
    key text := substr(name, strpos(name || '/', '/') + 1);
BEGIN
    IF what NOT IN ('global', 'kind', 'queue', 'key') OR (what = 'global') <> (name = '') OR (what = 'key' AND key = '')
       OR (what <> 'key' AND (max_running IS NULL OR num_nonnulls(weight, rate, burst, exempt) > 0)) THEN
        RAISE EXCEPTION 'no such limit: %', target USING ERRCODE = 'invalid_parameter_value',
            HINT = 'global, kind:NAME and queue:NAME take max_running; key:QUEUE/KEY also weight, rate, burst and exempt.';
    END IF;
    IF what IN ('global', 'kind') THEN
        INSERT INTO tandem.concurrency_limit AS c (name, max_running) VALUES (target, max_running)
        ON CONFLICT ON CONSTRAINT concurrency_limit_pkey DO UPDATE SET max_running = excluded.max_running;
        PERFORM tandem.recheck_keys(q.name, CASE WHEN NOT q.ordered THEN '' END) FROM tandem.queue AS q WHERE q.managed;
    ELSIF what = 'queue' THEN
        UPDATE tandem.queue AS q SET max_running = set_limit.max_running WHERE q.name = queue_name;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no queue %', queue_name USING ERRCODE = 'invalid_parameter_value';
        END IF;
        PERFORM tandem.recheck_keys(queue_name, '');
    ELSE
        INSERT INTO tandem.key AS k (queue, partition_key, max_running, weight, exempt, rate, burst)
        VALUES (queue_name, key, max_running, coalesce(weight, 1), coalesce(exempt, false), rate, burst)
        ON CONFLICT ON CONSTRAINT key_pkey DO UPDATE
        SET max_running = coalesce(set_limit.max_running, k.max_running), weight = coalesce(set_limit.weight, k.weight),
            exempt = coalesce(set_limit.exempt, k.exempt), rate = coalesce(set_limit.rate, k.rate),
            burst = coalesce(set_limit.burst, k.burst);
        PERFORM tandem.recheck_keys(queue_name, key);
    END IF;
END
$$;
