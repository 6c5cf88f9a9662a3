-- Changes the capacity; answers what it was.
UPDATE public.customer_capacity AS c SET capacity = %(capacity)s, updated_at = tandem.clock()
FROM (SELECT b.capacity FROM public.customer_capacity AS b FOR NO KEY UPDATE) AS before
RETURNING before.capacity
