-- The configured capacity, held until the transaction ends: those whose tier may be refused come one after the other,
-- so that two of them never take the same last place.
SELECT c.capacity FROM public.customer_capacity AS c FOR NO KEY UPDATE
