-- Whether a month of a time zone ended some time ago.
SELECT (%(month)s::date + interval '1 month')::timestamp AT TIME ZONE %(time_zone)s + %(grace)s::float8 * interval '1 s'
       <= tandem.clock()
