-- tandem.next_mean(mean, ran, ended): the running mean of run times in ms after `ended` jobs that ran `ran` ms together.
-- Internal: it is what an admission charges before the job's own time is known.
CREATE OR REPLACE FUNCTION tandem.next_mean(mean double precision, ran double precision, ended bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN ended > 0 THEN mean + (1 - 0.8 ^ ended::double precision) * (ran / ended - mean) ELSE mean END;
