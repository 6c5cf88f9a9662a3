-- What the priority formula asks about accepted jobs, as it is now: the customer's tier and history, the hour of its clock.
SELECT j.job_id, t.base_priority AS base, j.importance, c.recent_succeeded AS succeeded, c.recent_ended AS ended, j.deadline, j.light,
       extract(hour FROM k.at AT TIME ZONE c.time_zone)::integer AS hour, j.revenue, k.at - j.accepted_at AS waited,
       t.ageing_every, k.at AS now
FROM unnest(%(job_ids)s::bigint[]) AS u(job_id) JOIN public.customer_jobs AS j ON j.job_id = u.job_id
JOIN public.customers AS c ON c.customer_id = j.customer_id JOIN public.customer_tiers AS t ON t.tier = c.tier
CROSS JOIN (SELECT tandem.clock() AS at) AS k
