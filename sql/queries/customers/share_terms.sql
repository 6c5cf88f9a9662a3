-- Tells the queue what holds for a customer's key from now on: jobs at once, weight, whether the global limit counts.
SELECT tandem.set_limit('key:customers/' || %(customer_id)s::text, max_running => %(max_running)s::integer,
                        weight => %(weight)s::float8, exempt => %(exempt)s::boolean)
