-- Forgets samples older than an hour.
DELETE FROM tandem.service_sample AS s WHERE s.at < (SELECT tandem.clock()) - interval '1 hour'
