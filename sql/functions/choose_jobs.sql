-- tandem.choose_jobs(...): the jobs that come next. Jobs of open turns are ordered as fair queueing would start them, one by
-- one: by virtual time, each job charged with its key's mean; jobs shorter than 5 ms go together, up to that, since a turn for
-- each would cost more than they run. A turn without a job (it was cancelled meanwhile) answers a row without one; `misplaced`
-- are jobs of a limited kind in the common lane; kinds are looked up where one is limited. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.choose_jobs(
    q tandem.queue, st tandem.admission, now timestamptz, want bigint, global_room bigint, kinds text[], kind_rooms bigint[]
) RETURNS TABLE (partition_key text, lane text, job_id bigint, pos bigint, kind text, start double precision, vtime double precision, step double precision, mean_ms double precision, tat timestamptz, every interval, exempt boolean,
                 misplaced boolean, taken boolean, plain boolean, asked bigint, live bigint, lease_floor bigint, floors bigint[], tid tid)
LANGUAGE sql STABLE AS $$
WITH turns AS (
    SELECT t.partition_key, t.lane, t.rank, t.vtime, t.floors, t.mean_ms, t.tat, t.lease_floor, t.tid, count(*) OVER () AS keys, h.together,
           sum(h.likely) OVER (ORDER BY t.rank DESC, t.vtime ROWS UNBOUNDED PRECEDING) - h.likely AS before
    FROM tandem.open_turns(q.name, st, want, global_room, kinds, kind_rooms) AS t
    CROSS JOIN LATERAL (SELECT f.together, least(f.together, st.per_turn) AS likely FROM (SELECT greatest(1, least(5, want, floor(5 / greatest(t.mean_ms, 0.1))))::bigint AS together) AS f) AS h
), open AS MATERIALIZED (  -- what is wanted and a little more; where keys have less, the next pass finds the rest
    SELECT * FROM turns AS t WHERE want <= 8 OR t.before < want + 10
), allowed AS MATERIALIZED (
    SELECT o.partition_key, o.lane, o.rank, o.vtime, o.floors, o.mean_ms, greatest(o.tat, s.tat) AS tat, r.every,
           coalesce(k.exempt, false) AS exempt, o.mean_ms / r.weight AS step, o.together, least(r.most - n.live, w.starts) AS key_room, o.tid, n.live, n.lease_floor,
           kinds IS NULL AND k.queue IS NULL AND q.key_rate IS NULL AND NOT (q.ordered OR q.rank_keys) AND cardinality(array_remove(o.floors, NULL)) = 1 AS plain,
           greatest(0, least(CASE WHEN want <= 8 THEN want ELSE greatest(want / o.keys + 1, o.together) END, r.most - n.live, w.starts))::bigint AS most
    FROM open AS o LEFT JOIN tandem.key AS k ON k.queue = q.name AND k.partition_key = o.partition_key
    CROSS JOIN LATERAL tandem.key_terms(q, k, o.partition_key) AS r
    CROSS JOIN LATERAL tandem.count_leases(q.name, o.partition_key, o.lease_floor, r.most) AS n
    LEFT JOIN LATERAL (  -- a key's rate is one, however many lanes it has
        SELECT max(v.tat) AS tat FROM unnest(CASE WHEN r.every IS NOT NULL THEN kinds || ''::text END) AS l(lane) CROSS JOIN LATERAL (
            SELECT t.tat FROM tandem.turn AS t WHERE t.queue = q.name AND t.partition_key = o.partition_key AND t.lane = l.lane
            ORDER BY t.seq DESC LIMIT 1) AS v) AS s ON r.every IS NOT NULL AND kinds IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT floor(extract(epoch FROM now + r.burst * r.every - greatest(o.tat, s.tat, now)) / extract(epoch FROM r.every)) AS starts) AS w
), offered AS (
    SELECT a.partition_key, a.lane, a.rank, a.vtime, a.mean_ms, a.tat, a.every, a.exempt, a.step, a.key_room, a.most AS asked, a.live, a.lease_floor, a.floors, a.tid, a.plain, b.job_id, b.pos, b.head, b.nth AS place, j.kind,
           a.vtime + (coalesce(b.nth, 1) - 1) / a.together * a.together * a.step AS start, NOT q.ordered AND a.lane = '' AND j.kind = ANY (kinds) AS misplaced
    FROM allowed AS a LEFT JOIN LATERAL tandem.next_in_line(q.name, a.partition_key, a.lane, a.floors, a.most) AS b ON true
    LEFT JOIN tandem.job AS j ON j.id = CASE WHEN kinds IS NOT NULL THEN b.job_id END
), ranked AS (
    SELECT o.partition_key, o.lane, o.job_id, o.pos, o.kind, o.start + coalesce(o.place, 0) * 1e-6 AS start, o.vtime, o.step, o.mean_ms, o.tat, o.every, o.exempt, o.misplaced, o.plain, o.asked, o.live, o.lease_floor, o.floors, o.tid,
           o.key_room, count(o.job_id) FILTER (WHERE o.misplaced IS NOT TRUE) OVER (PARTITION BY o.partition_key
               ORDER BY o.rank DESC, o.start, o.place, o.pos ROWS UNBOUNDED PRECEDING) AS of_key,  -- its lanes share the key's limit
           x.room, row_number() OVER (PARTITION BY o.kind ORDER BY o.rank DESC, o.start, o.head, o.place, o.pos) AS of_kind,
           count(o.job_id) OVER turn AS nth, count(o.job_id) FILTER (WHERE NOT o.exempt) OVER turn AS counts
    FROM offered AS o LEFT JOIN unnest(kinds, kind_rooms) AS x(kind, room) ON x.kind = o.kind
    WINDOW turn AS (ORDER BY o.rank DESC, o.start, o.head, o.place, o.pos, o.partition_key ROWS UNBOUNDED PRECEDING)
)
SELECT r.partition_key, r.lane, r.job_id, r.pos, r.kind, r.start, r.vtime, r.step, r.mean_ms, r.tat, r.every, r.exempt,
       coalesce(r.misplaced, false),
       r.job_id IS NOT NULL AND r.misplaced IS NOT TRUE AND r.nth <= want AND (r.exempt OR coalesce(r.counts <= global_room, true))
       AND coalesce(r.of_kind <= r.room, true) AND coalesce(r.of_key <= r.key_room, true), r.plain, r.asked, r.live, r.lease_floor, r.floors, r.tid
FROM ranked AS r
$$;
