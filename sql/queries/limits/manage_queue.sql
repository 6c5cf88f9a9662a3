-- Makes a queue managed, or changes how it is.
SELECT tandem.manage_queue(%(queue)s::text, %(ordered)s::boolean, %(dead_head)s::text, %(key_limit)s::integer, %(key_rate)s::float8,
                           %(key_burst)s::integer, %(rank_keys)s::boolean)
