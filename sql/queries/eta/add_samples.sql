-- Appends how long tries ran.
INSERT INTO tandem.service_sample (at, queue, kind, tries, ran_ms, squares)
SELECT tandem.clock(), u.queue, u.kind, u.tries, u.ran_ms, u.squares
FROM unnest(%(queues)s::text[], %(kinds)s::text[], %(tries)s::bigint[], %(ran_ms)s::float8[], %(squares)s::float8[])
    AS u(queue, kind, tries, ran_ms, squares)
