-- tandem.wake_sleepers(queue): of those who sleep on a queue, tells two; the others sleep on. Answers how many were told.
-- A sleeper holds its seat's lock (the queue's hash, 1413565200 + seat) exclusively. Probes share it: two never take each other for a sleeper.
-- Whoever is told looks, and tells two more where it could not take all there was (workers/producer.py). Few statements: each
-- costs a transaction more than a probe does. Two are told, so that no job waits for one that is slow, stands still or has just died.
CREATE OR REPLACE FUNCTION tandem.wake_sleepers(queue text) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Who sits on seat 2 or 3, asleep or not, is the third worker or more. With fewer no probe is wasted on other seats.
    few boolean := pg_try_advisory_lock_shared(hashtext(queue), 1413565102) AND pg_advisory_unlock_shared(hashtext(queue), 1413565102)
        AND pg_try_advisory_lock_shared(hashtext(queue), 1413565103) AND pg_advisory_unlock_shared(hashtext(queue), 1413565103);
    seat integer := CASE WHEN few THEN 1 ELSE floor(random() * 64) END;
    other integer;
    told integer := 0;
BEGIN
    -- Down by random steps: however many of the low seats are taken, each of them is found about equally often.
    WHILE seat >= 0 AND pg_try_advisory_lock_shared(hashtext(queue), 1413565200 + seat)
          AND pg_advisory_unlock_shared(hashtext(queue), 1413565200 + seat) LOOP
        seat := CASE seat WHEN 0 THEN -1 ELSE floor(random() * seat) END;
    END LOOP;
    IF seat < 0 THEN
        -- Another producer's probe of the lane looks like a sleeper, and so does one of another queue; some have no seat.
        IF pg_try_advisory_lock(1413565006, tandem.wake_lane(queue)) AND pg_advisory_unlock(1413565006, tandem.wake_lane(queue)) THEN
            RETURN 0;
        END IF;
        few := false;
        seat := 1;
        WHILE seat < 64 AND pg_try_advisory_lock_shared(hashtext(queue), 1413565200 + seat)
              AND pg_advisory_unlock_shared(hashtext(queue), 1413565200 + seat) LOOP
            seat := seat + 1;
        END LOOP;
        IF seat = 64 THEN
            IF pg_try_advisory_lock(1413565006, 32 + tandem.wake_lane(queue)) AND pg_advisory_unlock(1413565006, 32 + tandem.wake_lane(queue)) THEN
                RETURN 0;
            END IF;
            PERFORM pg_notify('tandem_wake_' || tandem.wake_lane(queue), '');
            RETURN 1;
        END IF;
    END IF;
    FOR nth IN 0..CASE WHEN few THEN seat ELSE 16 END LOOP  -- the seat, those below, then those above
        other := CASE WHEN nth <= seat THEN seat - nth ELSE nth END;
        CONTINUE WHEN nth > 0 AND pg_try_advisory_lock_shared(hashtext(queue), 1413565200 + other)
                      AND pg_advisory_unlock_shared(hashtext(queue), 1413565200 + other);
        told := told + (pg_notify('tandem_seat_' || tandem.queue_number(queue) || '_' || other, '') IS NOT NULL)::integer;  -- no PERFORM: that is a query
        EXIT WHEN told = 2;
    END LOOP;
    RETURN told;
END
$$;
