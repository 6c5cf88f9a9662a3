-- Enqueues one job without a unique key, due now, in the caller's transaction: the cheapest way there is.
SELECT tandem.enqueue(%(kind)s, %(payload)s::jsonb, %(queue)s, %(priority)s, NULL, %(partition_key)s, %(event_id)s::uuid,
                      NULL, 'forever', NULL, %(policy)s::jsonb, %(context)s::jsonb)
