-- A batch of stored secrets of webhooks, in the customers' order; the rows stay locked.
SELECT c.customer_id, c.webhook_secret FROM public.customers AS c
WHERE c.customer_id > %(after)s AND c.webhook_secret IS NOT NULL
ORDER BY c.customer_id LIMIT %(most)s FOR NO KEY UPDATE
