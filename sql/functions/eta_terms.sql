-- tandem.eta_terms(job, starts, first, servers, mean, deviation, tries): what tandem.eta_band is asked for a job: these terms, but
-- where limits of kinds hold in an unordered managed queue one row for its turn and one for its kind's limit, of which the later
-- time counts. `first`: starts that come before all of the queue. Internal: for the ETA. Jobs ahead flow as a fluid: a kind is held back by its limit when its work takes longer under
-- it than all the work in all slots; it then keeps its limit's slots, and the others share what remains (twice: fewer slots, more kinds).
CREATE OR REPLACE FUNCTION tandem.eta_terms(job bigint, starts float8, first float8, servers float8, mean float8, deviation float8, tries bigint)
RETURNS TABLE (starts float8, servers float8, mean float8, deviation float8, tries bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH limited AS MATERIALIZED (
    SELECT q.name FROM tandem.blocked AS b JOIN tandem.queue AS q ON q.name = b.queue AND q.managed AND NOT q.ordered
    WHERE b.job_id = $1 AND EXISTS (SELECT FROM tandem.concurrency_limit AS c WHERE c.name <> 'global')
), kinds AS MATERIALIZED (
    SELECT k.kind, k.jobs, k.running, k.mean, k.deviation, k.most, k.room, k.jobs * k.mean AS work
    FROM limited CROSS JOIN LATERAL tandem.kinds_ahead($1) AS k
), once AS MATERIALIZED (
    SELECT k.kind, k.jobs, k.running, k.mean, k.deviation, k.most, k.work,
           coalesce(k.work * $4 > k.most * sum(k.work) OVER (), false) AS held FROM kinds AS k
), twice AS MATERIALIZED (
    SELECT o.kind, o.jobs, o.running, o.mean, o.deviation, o.most, o.held OR coalesce(
               o.work * ($4 - coalesce(sum(o.most) FILTER (WHERE o.held) OVER (), 0))
               > o.most * sum(o.work) FILTER (WHERE NOT o.held) OVER (), false) AS held FROM once AS o
), free AS MATERIALIZED (
    SELECT greatest(0, $4 - coalesce(sum(t.most) FILTER (WHERE t.held), 0)) AS servers,
           coalesce(sum(t.jobs) FILTER (WHERE NOT t.held), 0) AS jobs, coalesce(sum(t.running) FILTER (WHERE NOT t.held), 0) AS running,
           sum(t.jobs * t.mean) FILTER (WHERE NOT t.held) AS work,
           sum(t.jobs * (t.deviation ^ 2 + t.mean ^ 2)) FILTER (WHERE NOT t.held) AS squares
    FROM twice AS t
)
SELECT $2 + $3, $4, $5, $6, $7 WHERE NOT EXISTS (SELECT FROM limited)
UNION ALL
SELECT greatest(0, f.jobs + 1 - greatest(0, f.servers - f.running)) + $3, f.servers,
       CASE WHEN f.jobs > 0 THEN f.work / f.jobs ELSE $5 END,
       CASE WHEN f.jobs > 0 THEN sqrt(greatest(0, f.squares / f.jobs - (f.work / f.jobs) ^ 2)) ELSE $6 END, $7
FROM free AS f WHERE EXISTS (SELECT FROM limited)
UNION ALL
SELECT greatest(0, k.jobs + 1 - greatest(0, k.room)), least($4, k.most), k.mean, k.deviation, $7
FROM kinds AS k JOIN tandem.job AS j ON j.id = $1 AND j.kind = k.kind WHERE k.most IS NOT NULL
$$;
