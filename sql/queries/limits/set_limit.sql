-- Sets a limit; what is NULL stays as it is.
SELECT tandem.set_limit(%(target)s::text, %(max_running)s::integer, %(weight)s::float8, %(rate)s::float8, %(burst)s::integer,
                        %(exempt)s::boolean)
