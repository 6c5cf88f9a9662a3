-- The lowest free seat on each queue, for as long as this session lives; no row where all 64 are taken.
SELECT t.queue, t.key, t.seat, 'tandem_seat_' || tandem.queue_number(t.queue) || '_' || t.seat AS channel FROM (
    SELECT u.queue, hashtext(u.queue) AS key, (
        SELECT s.seat FROM generate_series(0, 63) AS s(seat)
        WHERE pg_try_advisory_lock(hashtext(u.queue), 1413565100 + s.seat) LIMIT 1) AS seat
    FROM unnest(%(queues)s::text[]) AS u(queue) OFFSET 0) AS t
WHERE t.seat IS NOT NULL
