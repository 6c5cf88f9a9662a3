-- On how many of the last days a customer came near its quota.
SELECT count(*)::integer FROM public.customer_quota_days AS d
WHERE d.customer_id = %(customer_id)s AND d.day <= %(day)s::date AND d.day > %(day)s::date - %(window)s::integer
  AND d.accepted >= %(least)s
