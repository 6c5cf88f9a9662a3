-- Stored secrets of customers' webhooks, and how many of them are plain text.
SELECT count(*) AS secrets, count(*) FILTER (WHERE left(c.webhook_secret, 1) <> '{') AS plain
FROM public.customers AS c WHERE c.webhook_secret IS NOT NULL
